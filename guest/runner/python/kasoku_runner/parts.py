"""How an event comes in and a result goes out: as JSON, as frames with arrays in them, or in parts as they are made."""

import json
from collections.abc import Iterator
from typing import Any

from kasoku_runner import blobs
from kasoku_runner.channel import Channel

FRAMES = b"KSK1"


class Parts:
    """What the caller of one invocation asked for."""

    def __init__(self, channel: Channel, invocation: dict[str, Any]) -> None:
        self._channel = channel
        self._request_id = invocation["request_id"]
        self._frames = invocation.get("format") == "frames"
        self._answers_frames = invocation.get("accept") == "frames"
        self._chunks = invocation.get("chunks")
        self.lent = blobs.views(invocation["blobs"]) if "blobs" in invocation else []
        """What the invocation was lent."""

    def decode(self, payload: bytes) -> Any:
        """The event."""
        if not self._frames:
            return json.loads(payload)
        from kasoku.sdk import wire

        return wire.decode(payload, self.lent)

    def encode(self, result: Any) -> bytes:
        """The answer; frames only for a caller that takes them. What is too large for it goes ahead in blobs."""
        try:
            return json.dumps(result, allow_nan=False).encode()
        except TypeError:  # an array or a blob, or what nobody can send
            if not self._answers_frames:
                raise
        from kasoku.sdk import wire

        apart: list[Any] = []
        answer = wire.encode(result, apart)[0]
        for blob in apart:
            blobs.send(self._channel, self._request_id, blob)
        return answer

    def send(self, made: Any) -> Any:
        """What a generator yields: sent on as it comes if the caller wants parts, else all of it as a list."""
        items = _drive(made) if hasattr(made, "__anext__") else made
        if self._chunks is None:
            return list(items)
        for item in items:
            self._channel.send({"type": "chunk", "request_id": self._request_id}, self._part(item))
        return None

    def _part(self, item: Any) -> bytes:
        if self._chunks == "raw":
            if isinstance(item, str):
                return item.encode()
            if isinstance(item, (bytes, bytearray, memoryview)):
                return bytes(item)
        return json.dumps(item, allow_nan=False).encode()


def yields(result: Any) -> bool:
    """Whether a handler's result is a generator, of either kind."""
    return hasattr(result, "gi_frame") or hasattr(result, "ag_frame")


def _drive(made: Any) -> Iterator[Any]:
    """An asynchronous generator, step by step."""
    import asyncio

    with asyncio.Runner() as runner:
        while True:
            try:
                item = runner.run(_next(made))
            except StopAsyncIteration:
                return
            yield item


async def _next(made: Any) -> Any:
    return await anext(made)
