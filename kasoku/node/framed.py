"""Length-prefixed messages over a stream socket, as an asyncio protocol: whole frames go in and out, in order.

Peers are virtual machines and their monitors, so lengths are checked before anything is kept, and a frame that cannot
be read ends the connection.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar, cast

M = TypeVar("M")
MAX_QUEUED = 64
MAX_QUEUED_BYTES = 16 << 20
"""Messages, and their bytes, that wait for their reader before the peer is no longer listened to."""


class ConnectionEnded(Exception):
    """The peer closed the connection, or broke its rules (the message says which)."""


class FramedProtocol(asyncio.Protocol, Generic[M]):
    """Base: a subclass says how one message is cut from the front of the buffer. One reader at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._messages: deque[tuple[M, int]] = deque()
        self._queued = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended: str | None = None
        self._paused = False
        self._transport: asyncio.Transport | None = None

    def cut(self, buffer: bytearray) -> tuple[M, int] | None:
        """The first message of `buffer` and its length; None: incomplete. Raises ValueError for one that is wrong."""
        raise ValueError("a subclass cuts messages")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while found := self.cut(self._buffer):
                self._messages.append(found)
                self._queued += found[1]
                del self._buffer[: found[1]]
        except ValueError as error:
            self._end(f"it sent a message that cannot be read: {error}")
            if self._transport:
                self._transport.abort()
        many = len(self._messages) > MAX_QUEUED or self._queued > MAX_QUEUED_BYTES
        if many and self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("it closed the connection" if exc is None else str(exc))
        self._wake()

    async def receive(self) -> M:
        """The next message. Raises ConnectionEnded after the last one."""
        while not self._messages:
            if self._ended is not None:
                raise ConnectionEnded(self._ended)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message, length = self._messages.popleft()
        self._queued -= length
        few = len(self._messages) <= MAX_QUEUED // 2 and self._queued <= MAX_QUEUED_BYTES // 2
        if self._paused and few and self._transport:
            self._paused = False
            self._transport.resume_reading()
        return message

    def interrupt(self, error: Exception) -> None:
        """Raise an error where somebody waits for a message."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(error)

    def write(self, data: bytes) -> None:
        """Queue bytes to the peer; a lost connection shows at the next `receive`."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close at once; nothing that is queued is sent."""
        if self._transport:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = reason

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
