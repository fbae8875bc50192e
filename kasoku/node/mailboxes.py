"""Answers of an instance that serves several events at a time: each goes to whoever waits for it."""

import asyncio
import contextlib
from collections import deque

from kasoku.node.framed import ConnectionEnded
from kasoku.node.runner import Header, RunnerProtocol

MAX_WAITING = 4
"""Frames of one invocation that wait for their reader before the instance is no longer listened to."""
Frame = tuple[Header, bytes]


class Mailbox:
    """The frames of one invocation."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._error: Exception | None = None
        self._closed = False
        self._came = asyncio.Event()
        self._taken = asyncio.Event()

    async def receive(self) -> Frame:
        """The next frame. Raises ConnectionEnded after the last one, and what `interrupt` was given."""
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._came.clear()
            await self._came.wait()
        self._taken.set()
        return self._frames.popleft()

    async def put(self, frame: Frame) -> None:
        """Hand a frame over; waits while too many have not been taken."""
        self._frames.append(frame)
        self._came.set()
        while len(self._frames) > MAX_WAITING and not self._closed:
            self._taken.clear()
            await self._taken.wait()

    def interrupt(self, error: Exception) -> None:
        """Raise an error where somebody waits, once there are no more frames."""
        self._error = self._error or error
        self._came.set()

    def close(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self._frames.clear()
        self._taken.set()


class Mailboxes:
    """See the module. A frame of an invocation that nobody waits for any more is dropped."""

    def __init__(self, runner: RunnerProtocol) -> None:
        self._runner = runner
        self._boxes: dict[str, Mailbox] = {}
        self._ended: ConnectionEnded | None = None
        self._sorting = asyncio.create_task(self._sort())

    def open(self, request_id: str) -> Mailbox:
        """The place where the answers to an invocation come, until `shut`."""
        box = self._boxes[request_id] = Mailbox()
        if self._ended:
            box.interrupt(self._ended)
        return box

    def shut(self, request_id: str) -> None:
        """The invocation is over."""
        self._boxes.pop(request_id).close()

    async def close(self) -> None:
        """Stop; whoever waits is told that the connection has ended."""
        self._sorting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sorting
        self._end(ConnectionEnded("it was closed"))

    async def _sort(self) -> None:
        try:
            while True:
                header, body = await self._runner.receive()
                if box := self._boxes.get(getattr(header, "request_id", "")):
                    await box.put((header, body))
        except ConnectionEnded as error:
            self._end(error)

    def _end(self, error: ConnectionEnded) -> None:
        self._ended = self._ended or error
        for box in self._boxes.values():
            box.interrupt(self._ended)
