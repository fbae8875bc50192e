"""What goes into an instance and what comes out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kasoku.node.errors import Failure

_raw = msgspec.json.Decoder(msgspec.Raw)


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
    """`payload` is frames (`kasoku.sdk.wire`), and so may the result be. The function reads them; here nobody does."""
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
