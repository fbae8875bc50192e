"""Picking an instance for an invocation."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the balancer sees of an instance."""

    @property
    def outstanding(self) -> int:
        """Invocations that it serves."""
        ...

    @property
    def room(self) -> int:
        """How many more it could take; none while it starts, ends, or has lost its device."""
        ...

    @property
    def used_at(self) -> float:
        """When it was last given something to do, or became free, in seconds."""
        ...


C = TypeVar("C", bound=Candidate)


def pick(candidates: Iterable[C], below: Callable[[int], int]) -> C | None:
    """An instance with room. `below(n)` is a chance number from 0 to n - 1.

    Among those that serve nothing it is the one that was used last: its caches are warm, and the others get old enough
    to be ended. When all with room serve something, it is the one of two drawn by chance that serves less: nearly as
    even as looking for the least loaded, and invocations that come at the same time do not all run to the same one.
    """
    last: C | None = None
    loaded: list[C] = []
    for candidate in candidates:
        if candidate.room <= 0:
            continue
        if candidate.outstanding:
            loaded.append(candidate)
        elif last is None or candidate.used_at >= last.used_at:
            last = candidate
    if last is not None or not loaded:
        return last
    first = loaded[below(len(loaded))]
    second = loaded[below(len(loaded))]
    return second if (second.outstanding, -second.used_at) < (first.outstanding, -first.used_at) else first
