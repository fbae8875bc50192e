"""Picking an instance for an invocation."""

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the balancer sees of an instance."""

    @property
    def idle_since(self) -> float | None:
        """Since when the instance is free, in seconds; None while it is busy, starting or ending."""
        ...


C = TypeVar("C", bound=Candidate)


def pick(candidates: Iterable[C]) -> C | None:
    """The free instance that was used last: its caches are warm, and the others get old enough to be ended."""
    best: C | None = None
    latest = float("-inf")
    for candidate in candidates:
        since = candidate.idle_since
        if since is not None and since >= latest:
            best, latest = candidate, since
    return best
