"""The parts of a result that come before its answer: items of a generator, and blobs."""

from kasoku.node.framed import ConnectionEnded
from kasoku.node.outcome import Invocation, Keeper
from kasoku.node.runner import BlobPart, Chunk, Header, RunnerProtocol

MAX_KEPT = 64
"""Blobs of one result."""


async def take_parts(
    runner: RunnerProtocol, invocation: Invocation, answer: Header, body: bytes
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
            answer, body = await runner.receive()
    finally:
        if keeper:
            keeper.abort()
