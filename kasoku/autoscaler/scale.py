"""How many instances of a function to start or end now."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolView:
    """What the autoscaler knows of one version of a function."""

    waiting: int
    """Invocations that have no instance."""
    starting: int
    """Instances that will take one of them: being started, or in line for a device."""
    alive: int
    """All instances, those starting included."""
    idle_since: Sequence[tuple[str, float]]
    """Idle instances and since when."""
    max_instances: int
    idle_timeout: float
    retired: bool = False
    """A newer version took over: nothing is kept warm."""
    min_instances: int = 0
    """So many exist, work or not."""
    buffer_instances: int = 0
    """So many more than there is work for, while there is any: the next burst finds them started."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Start `start` instances, end those in `end`; `reason` says why in one line."""

    start: int
    end: tuple[str, ...]
    reason: str


def scale(pool: PoolView, now: float) -> Scale:
    """One instance for each invocation that waits or runs, the buffer on top, within the limits; old idle ones end.

    An invocation has an instance of its own, so the number of those that wait and run is the demand, and what a
    starting instance will take is counted already: a burst starts what it needs at once, and no more.
    """
    idle = len(pool.idle_since)
    work = pool.waiting + pool.alive - pool.starting - idle
    wanted, lifetime = work, pool.idle_timeout
    if pool.retired:
        lifetime = 0.0
    else:
        wanted = max(pool.min_instances, work + pool.buffer_instances if work else 0)
    wanted = min(wanted, pool.max_instances)
    old = sorted((since, id) for id, since in pool.idle_since if now - since >= lifetime)
    end = tuple(id for _, id in old[: max(0, min(idle - pool.waiting, pool.alive - wanted))])
    start = max(0, wanted - pool.alive)
    reason = (
        f"{pool.waiting} waiting, {pool.starting} starting, {idle} idle, {pool.alive} alive, "
        f"{wanted} wanted of at most {pool.max_instances}"
    )
    return Scale(start, end, reason)
