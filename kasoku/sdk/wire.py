"""Values with arrays in them, as bytes: JSON for what JSON has, raw memory for arrays. Nothing is ever unpickled.

    "KSK1" | u32 length of the JSON text | JSON text | padding to 64 | array | padding to 64 | array ...

In the text an array is `{"__array__": [offset, dtype, [shape]]}`, the offset counted from the end of the padding.
A reader makes arrays that look into the bytes it was given: nothing is copied. Whoever reads checks dtype and bounds,
since the other side may be hostile. NumPy is imported only where there is an array.
"""

import json
import struct
import sys
from typing import Any

MAGIC = b"KSK1"
CONTENT_TYPE = "application/x-kasoku"
ALIGNMENT = 64
MARK = "__array__"
KINDS = "biufc"
"""Booleans, integers, floats, complex numbers: dtypes whose memory is a value and never a pointer."""
MAX_DIMENSIONS = 32
_LENGTH = struct.Struct("<I")


class WireError(ValueError):
    """Bytes that are no value, or a value that cannot be sent."""


def encode(value: Any) -> tuple[bytes, bool]:
    """The bytes of a value, and whether they are frames; plain JSON text where there is no array.

    Raises TypeError and ValueError as `json.dumps` does.
    """
    arrays: list[Any] = []
    offset = 0

    def default(item: Any) -> Any:
        nonlocal offset
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(item, numpy.ndarray):
            if item.dtype.kind not in KINDS:
                raise WireError(f"an array of dtype {item.dtype} cannot be sent")
            array = numpy.ascontiguousarray(item)
            shape = list(item.shape)
            mark = {MARK: [offset, array.dtype.str, shape]}
            arrays.append(array)
            offset += _padded(array.nbytes)
            return mark
        if numpy is not None and isinstance(item, numpy.generic) and item.dtype.kind in "biuf":
            return item.item()
        raise TypeError(f"Object of type {type(item).__name__} is not JSON serializable")

    text = json.dumps(value, default=default, allow_nan=False).encode()
    if not arrays:
        return text, False
    start = len(MAGIC) + _LENGTH.size + len(text)
    parts = [MAGIC, _LENGTH.pack(len(text)), text, bytes(-start % ALIGNMENT)]
    for array in arrays:
        parts += [array.reshape(-1).view("u1").data, bytes(-array.nbytes % ALIGNMENT)]
    return b"".join(parts), True


def decode(data: bytes | memoryview) -> Any:
    """The value of `encode`'s bytes. Raises WireError (a ValueError) for anything else."""
    view = memoryview(data)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        return json.loads(bytes(view))
    head = len(MAGIC) + _LENGTH.size
    if len(view) < head:
        raise WireError("the frames are cut short")
    (length,) = _LENGTH.unpack(view[len(MAGIC) : head])
    if length > len(view) - head:
        raise WireError("the frames are cut short")
    body = view[min(len(view), head + length + (-(head + length) % ALIGNMENT)) :]

    def restore(item: dict[str, Any]) -> Any:
        return _array(item[MARK], body) if item.keys() == {MARK} else item

    return json.loads(bytes(view[head : head + length]), object_hook=restore)


def _array(described: Any, body: memoryview) -> Any:
    import numpy

    match described:
        case [int(offset), str(name), list(shape)] if len(shape) <= MAX_DIMENSIONS:
            pass
        case _:
            raise WireError("an array is described by offset, dtype and shape")
    if len(name) > 8 or name[1:2] not in KINDS or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise WireError(f"no array can have the dtype {name[:8]!r} and the shape {shape}")
    try:
        dtype = numpy.dtype(name)
    except TypeError:
        raise WireError(f"there is no dtype {name!r}") from None
    count = 1
    for n in shape:
        count *= n
    if offset < 0 or dtype.kind not in KINDS or count * dtype.itemsize > len(body) - offset:
        raise WireError("an array reaches beyond the frames")
    array = numpy.frombuffer(body, dtype, count, offset) if count else numpy.empty(0, dtype)
    return array.reshape(shape)


def _padded(length: int) -> int:
    return length + (-length % ALIGNMENT)
