"""Values with arrays, as bytes and back; and bytes that are no value."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from kasoku.sdk import wire
from kasoku.sdk.blob import Blob


@given(
    hn.arrays(
        st.one_of(hn.integer_dtypes(), hn.floating_dtypes(), hn.boolean_dtypes(), hn.complex_number_dtypes()),
        hn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_arrays_come_back_as_they_were(array: Any) -> None:
    data, frames = wire.encode({"a": [array, {"b": array.T}], "n": 1})
    assert frames
    back = wire.decode(data)
    for one, other in ((back["a"][0], array), (back["a"][1]["b"], array.T)):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    assert back["n"] == 1


def test_what_a_payload_is_too_small_for_goes_apart() -> None:
    large, small = np.arange(wire.INLINE_BYTES // 8, dtype="<i8"), np.arange(10)
    apart: list[memoryview] = []
    data, frames = wire.encode({"a": [large, small, large.reshape(2, -1)], "b": Blob(b"bytes")}, apart)
    assert frames and len(data) < wire.INLINE_BYTES + 4096 and [len(part) for part in apart] == [80, large.nbytes, 5]
    back = wire.decode(data, apart)
    assert np.array_equal(back["a"][0], large) and np.array_equal(back["a"][1], small)
    assert np.array_equal(back["a"][2], large.reshape(2, -1)) and np.shares_memory(back["a"][2], large)
    assert bytes(back["b"]) == b"bytes" and back["b"].data.readonly
    with pytest.raises(TypeError):
        wire.encode(Blob(b"bytes"))


@pytest.mark.parametrize(
    "mark",
    [
        {"__blob__": 1},
        {"__blob__": -1},
        {"__blob__": "0"},
        {"__blob__": None},
        {"__array__": [0, "<f8", [1], 1]},
        {"__array__": [0, "<f8", [3], 0]},
        {"__array__": [8, "<f8", [2], 0]},
        {"__array__": [0, "<f8", [1], 0, 0]},
    ],
)
def test_blobs_that_are_none(mark: Any) -> None:
    text = json.dumps(mark).encode()
    with pytest.raises(wire.WireError):
        wire.decode(b"KSK1" + struct.pack("<I", len(text)) + text, [memoryview(bytes(16))])


@pytest.mark.parametrize("data", [b"", np.zeros((4, 4))[:, 1], "text"])
def test_what_is_no_blob(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Blob(data)


def test_nothing_is_copied_and_scalars_are_numbers() -> None:
    data, _ = wire.encode(np.arange(1000))
    assert np.shares_memory(wire.decode(data), np.frombuffer(data, "u1"))
    assert wire.encode({"x": np.float32(1.5), "y": np.int64(3)}) == (b'{"x": 1.5, "y": 3}', False)


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["text"]), np.zeros(2, "datetime64[s]"), {1, 2}])
def test_what_cannot_be_sent(value: Any) -> None:
    with pytest.raises((wire.WireError, TypeError)):
        wire.encode(value)


def frames(mark: Any, body: bytes = bytes(64), length: int | None = None) -> bytes:
    text = json.dumps({"__array__": mark}).encode()
    head = b"KSK1" + struct.pack("<I", len(text) if length is None else length) + text
    return head + bytes(-len(head) % 64) + body


@pytest.mark.parametrize(
    "data",
    [
        frames([0, "<f8", [9]]),
        frames([-8, "<f8", [1]]),
        frames([60, "<f8", [1]]),
        frames([0, "<f8", [-1]]),
        frames([0, "<f8", [1 << 62, 1 << 62]]),
        frames([0, "|O8", [1]]),
        frames([0, "O", [1]]),
        frames([0, "<U4", [1]]),
        frames([0, "V8", [1]]),
        frames([0, "<f8,<f8", [1]]),
        frames([0, "<f3", [1]]),
        frames([0, "<f8", [1] * 33]),
        frames([0, "<f8", ["1"]]),
        frames([0, "<f8"]),
        frames("x"),
        frames([0, "<f8", [1]], length=1 << 31),
        b"KSK1",
        b"KSK1\1\0\0\0",
        b"KSK1\1\0\0\0{",
        b"not json",
    ],
)
def test_bytes_that_are_no_value(data: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode(data)
