"""The parts of a result that come before its answer: items of a generator, and blobs."""

from typing import Protocol

from kasoku.node.framed import ConnectionEnded
from kasoku.node.outcome import Invocation, Keeper
from kasoku.node.runner import BlobPart, Chunk, Header

MAX_KEPT = 64
"""Blobs of one result."""


class Inbox(Protocol):
    """Where the frames of an invocation come: the runner's channel, or a mailbox."""

    async def receive(self) -> tuple[Header, bytes]:
        """The next frame. Raises ConnectionEnded."""
        ...

    def interrupt(self, error: Exception) -> None:
        """Raise an error where somebody waits for a frame."""
        ...


async def take_parts(
    inbox: Inbox, invocation: Invocation, answer: Header, body: bytes
) -> tuple[Header, bytes, list[str]]:
    """From the first frame on: what is no part any more, and the names of the blobs that were kept.

    Raises ConnectionEnded, PlatformError (there is no room for a blob), and what `on_chunk` raises.
    """
    kept: list[str] = []
    keeper: Keeper | None = None
    try:
        while True:
            match answer:
                case Chunk(request_id=id) if invocation.on_chunk and id == invocation.request_id:
                    await invocation.on_chunk(body)
                case BlobPart(request_id=id) if invocation.keep and id == invocation.request_id:
                    if len(kept) == MAX_KEPT:
                        raise ConnectionEnded(f"the result has more than {MAX_KEPT} blobs")
                    keeper = keeper or invocation.keep()
                    await keeper.write(body)
                    if answer.last:
                        kept.append(await keeper.finish())
                        keeper = None
                case _:
                    return answer, body, kept
            answer, body = await inbox.receive()
    finally:
        if keeper:
            keeper.abort()
