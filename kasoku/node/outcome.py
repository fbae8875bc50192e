"""What goes into an instance and what comes out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from kasoku.node.errors import Failure

_raw = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Lent:
    """A blob that an invocation may read: its name, which says what is in it, and its file."""

    id: str
    path: Path
    size: int


class Keeper(Protocol):
    """Takes one blob of a result in pieces. `finish` gives its name; `abort` forgets what was not finished."""

    async def write(self, data: bytes) -> None:
        """More bytes. Raises PlatformError when there is no room."""
        ...

    async def finish(self) -> str:
        """The blob's name. Raises PlatformError."""
        ...

    def abort(self) -> None:
        """Leave nothing of it."""
        ...


@dataclass(slots=True)
class Invocation:
    """One event for a function. `payload` is JSON text, checked; empty for none."""

    request_id: str
    payload: bytes
    client_context: dict[str, Any] | None = None
    version: str = "$LATEST"
    """What the caller's qualifier led to: `$LATEST` or a number."""
    arn: str = ""
    """The name by which the function was called; empty: its own."""
    frames: bool = False
    """`payload` is frames (`kasoku.sdk.wire`). The function reads them; here nobody does."""
    accepts_frames: bool = False
    """The result may be frames."""
    blobs: Sequence[Lent] = ()
    """What the event is too large for: the guest has it mapped."""
    keep: Callable[[], Keeper] | None = None
    """Takes what a result of frames is too large for."""
    on_chunk: Callable[[bytes], Awaitable[None]] | None = None
    """Takes the parts of a result that comes in parts; the result is `null` then."""
    raw_chunks: bool = False
    """Parts that are text come as it is, not as JSON."""
    trace: str | None = None
    """`traceparent` for the guest, of an invocation that is traced."""


@dataclass(slots=True)
class Outcome:
    """`payload` (JSON text) or `failure`, and where the time went, in milliseconds."""

    payload: bytes
    failure: Failure | None
    log: bytes
    timings: dict[str, float]
    phases: dict[str, float] = field(default_factory=dict)
    """What the function itself reported."""
    frames: bool = False
    """`payload` is frames."""
    blobs: Sequence[str] = ()
    """Names of the blobs that were kept of it."""
    spans: Sequence[tuple[str, float, float]] = ()
    """What the guest reported of a traced invocation."""


def check_json(text: bytes) -> None:
    """Raise ValueError unless `text` is one JSON value in UTF-8. Builds nothing."""
    try:
        text.decode()
        _raw.decode(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None
