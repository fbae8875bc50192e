"""Where a function's time goes: named phases that it reports, collected per invocation by the runner.

Outside a VM (`.local()`, tests) phases are recorded the same way and simply thrown away at the next `drain`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MAX_PHASES = 64
MAX_NAME = 64


class _Noted:
    """What one invocation recorded."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.begun: dict[str, float] = {}
        """When each phase began first, on the clock of `time.perf_counter`."""


_noted = ContextVar("kasoku_phases", default=_Noted())  # noqa: B039 - one for all that have none of their own


def record_phase(name: str, milliseconds: float) -> None:
    """Add `milliseconds` to the phase `name` of this invocation. Of more than 64 names, later ones are dropped."""
    key = str(name)[:MAX_NAME]
    noted = _noted.get()
    phases = noted.phases
    if key in phases or len(phases) < MAX_PHASES:
        noted.begun.setdefault(key, time.perf_counter() - float(milliseconds) / 1000)
        phases[key] = phases.get(key, 0.0) + float(milliseconds)


def apart() -> None:
    """What this thread and its coroutines record from here on is of an invocation of its own."""
    _noted.set(_Noted())


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Record the time of a `with` block as the phase `name`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        record_phase(name, (time.perf_counter() - start) * 1000)


def drain() -> dict[str, float]:
    """What was recorded since the last call, in milliseconds."""
    noted = _noted.get()
    taken = dict(noted.phases)
    noted.phases.clear()
    noted.begun.clear()
    return taken


def spans(since: float) -> list[tuple[str, float, float]]:
    """The phases so far, each with its name, its begin in milliseconds after `since`, and its milliseconds in all."""
    noted = _noted.get()
    return [(name, (noted.begun[name] - since) * 1000, total) for name, total in noted.phases.items()]
