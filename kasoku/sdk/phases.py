"""Where a function's time goes: named phases that it reports, collected per invocation by the runner.

Outside a VM (`.local()`, tests) phases are recorded the same way and simply thrown away at the next `drain`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PHASES = 64
MAX_NAME = 64
_phases: dict[str, float] = {}
_begun: dict[str, float] = {}
"""When each phase began first, on the clock of `time.perf_counter`."""


def record_phase(name: str, milliseconds: float) -> None:
    """Add `milliseconds` to the phase `name` of this invocation. Of more than 64 names, later ones are dropped."""
    key = str(name)[:MAX_NAME]
    if key in _phases or len(_phases) < MAX_PHASES:
        _begun.setdefault(key, time.perf_counter() - float(milliseconds) / 1000)
        _phases[key] = _phases.get(key, 0.0) + float(milliseconds)


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
    taken = dict(_phases)
    _phases.clear()
    _begun.clear()
    return taken


def spans(since: float) -> list[tuple[str, float, float]]:
    """The phases so far, each with its name, its begin in milliseconds after `since`, and its milliseconds in all."""
    return [(name, (_begun[name] - since) * 1000, total) for name, total in _phases.items()]
