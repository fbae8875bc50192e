"""Values with arrays in them, as bytes: JSON for what JSON has, raw memory for arrays. Nothing is ever unpickled.

    "KSK1" | u32 length of the JSON text | JSON text | padding to 64 | array | padding to 64 | array ...

In the text an array is `{"__array__": [offset, dtype, [shape]]}`, the offset counted from the end of the padding.
What a payload is too small for travels apart, in blobs: an array is `{"__array__": [0, dtype, [shape], N]}` then, and
bytes are `{"__blob__": N}`, N counting the blobs that come along.
A reader makes arrays that look into the bytes it was given: nothing is copied. Whoever reads checks dtype and bounds,
since the other side may be hostile. NumPy is imported only where there is an array.
"""

import json
import struct
import sys
from collections.abc import Sequence
from typing import Any

MAGIC = b"KSK1"
CONTENT_TYPE = "application/x-kasoku"
ALIGNMENT = 64
MARK = "__array__"
BLOB_MARK = "__blob__"
INLINE_BYTES = 5 << 20
"""Arrays are part of the payload up to so many bytes together, where blobs can be used; a payload's limit is 6 MiB."""
KINDS = "biufc"
"""Booleans, integers, floats, complex numbers: dtypes whose memory is a value and never a pointer."""
MAX_DIMENSIONS = 32
_LENGTH = struct.Struct("<I")


class WireError(ValueError):
    """Bytes that are no value, or a value that cannot be sent."""


def encode(value: Any, blobs: list[Any] | None = None) -> tuple[bytes, bool]:
    """The bytes of a value, and whether they are frames; plain JSON text where there is no array.

    To `blobs` the memory is added that has to travel apart; without, all arrays are part of the bytes. Raises TypeError
    and ValueError as `json.dumps` does.
    """
    arrays: list[Any] = []
    offset = 0
    marked = False

    def default(item: Any) -> Any:
        nonlocal offset, marked
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(item, numpy.ndarray):
            if item.dtype.kind not in KINDS:
                raise WireError(f"an array of dtype {item.dtype} cannot be sent")
            array = numpy.ascontiguousarray(item)
            shape = list(item.shape)
            marked = True
            if blobs is not None and offset + array.nbytes > INLINE_BYTES:
                blobs.append(array.reshape(-1).view("u1").data)
                return {MARK: [0, array.dtype.str, shape, len(blobs) - 1]}
            mark = {MARK: [offset, array.dtype.str, shape]}
            arrays.append(array)
            offset += _padded(array.nbytes)
            return mark
        if numpy is not None and isinstance(item, numpy.generic) and item.dtype.kind in "biuf":
            return item.item()
        apart = sys.modules.get("kasoku.sdk.blob")
        if blobs is not None and apart is not None and isinstance(item, apart.Blob):
            marked = True
            blobs.append(item.data)
            return {BLOB_MARK: len(blobs) - 1}
        raise TypeError(f"Object of type {type(item).__name__} is not JSON serializable")

    text = json.dumps(value, default=default, allow_nan=False).encode()
    if not marked:
        return text, False
    start = len(MAGIC) + _LENGTH.size + len(text)
    parts = [MAGIC, _LENGTH.pack(len(text)), text, bytes(-start % ALIGNMENT)]
    for array in arrays:
        parts += [array.reshape(-1).view("u1").data, bytes(-array.nbytes % ALIGNMENT)]
    return b"".join(parts), True


def decode(data: bytes | memoryview, blobs: Sequence[memoryview] = ()) -> Any:
    """The value of `encode`'s bytes and blobs. Raises WireError (a ValueError) for anything else."""
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
        if item.keys() == {MARK}:
            return _array(item[MARK], body, blobs)
        return _blob(item[BLOB_MARK], blobs) if item.keys() == {BLOB_MARK} else item

    return json.loads(bytes(view[head : head + length]), object_hook=restore)


def _blob(number: Any, blobs: Sequence[memoryview]) -> Any:
    from kasoku.sdk.blob import Blob

    return Blob(_chosen(number, blobs))


def _chosen(number: Any, blobs: Sequence[memoryview]) -> memoryview:
    if not isinstance(number, int) or not 0 <= number < len(blobs):
        raise WireError(f"there is no blob {number!r:.20} among {len(blobs)}")
    return blobs[number]


def _array(described: Any, body: memoryview, blobs: Sequence[memoryview]) -> Any:
    import numpy

    match described:
        case [int(offset), str(name), list(shape), *apart] if len(shape) <= MAX_DIMENSIONS and len(apart) <= 1:
            body = _chosen(apart[0], blobs) if apart else body
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
        raise WireError("an array reaches beyond the frames or its blob")
    array = numpy.frombuffer(body, dtype, count, offset) if count else numpy.empty(0, dtype)
    return array.reshape(shape)


def _padded(length: int) -> int:
    return length + (-length % ALIGNMENT)
