"""Data beyond a payload: what an invocation was lent is mapped, what its result is too large for is sent in pieces."""

import os
from collections.abc import Iterable
from typing import Any

from kasoku_runner.channel import Channel

DEVICE = "/dev/kasoku/blobs"
PIECE = 4 << 20
"""Bytes of a frame's body; the agent takes six MiB."""


def views(places: Iterable[tuple[int, int]]) -> list[memoryview]:
    """The blobs at these offsets, with these sizes. Nothing is read: pages come as they are touched."""
    import mmap

    descriptor = os.open(DEVICE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return [
            memoryview(mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset))
            for offset, size in places
        ]
    finally:
        os.close(descriptor)


def send(channel: Channel, request_id: str, blob: Any) -> None:
    """One blob of a result."""
    view = memoryview(blob).cast("B")
    for start in range(0, len(view), PIECE):
        header: dict[str, Any] = {"type": "blob", "request_id": request_id}
        if start + PIECE >= len(view):
            header["last"] = True
        channel.send(header, view[start : start + PIECE])
