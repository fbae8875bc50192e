"""Bytes that travel apart from a call: sent once, and mapped where they are read."""

from typing import Any


class Blob:
    """Give one to a function, or return one from it: its bytes are no part of the payload, so its limit is not theirs.

    What a function gets is mapped into its guest, read-only, and brought in as it is touched. Arrays that a payload is
    too small for travel in the same way by themselves.
    """

    def __init__(self, data: Any) -> None:
        """`data` has a contiguous buffer: bytes, a memoryview, an mmap, an array. Raises TypeError, ValueError."""
        view = memoryview(data)
        if not view.contiguous:
            raise TypeError("a blob is made of contiguous memory")
        if not view.nbytes:
            raise ValueError("a blob has at least one byte")
        self._view = view.cast("B").toreadonly()

    @property
    def data(self) -> memoryview:
        """The bytes, where they lie."""
        return self._view

    def __bytes__(self) -> bytes:
        return bytes(self._view)

    def __len__(self) -> int:
        return len(self._view)

    def __repr__(self) -> str:
        return f"<kasoku blob of {len(self._view)} bytes>"
