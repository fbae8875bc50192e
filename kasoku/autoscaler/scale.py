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


@dataclass(frozen=True, slots=True)
class Scale:
    """Start `start` instances, end those in `end`; `reason` says why in one line."""

    start: int
    end: tuple[str, ...]
    reason: str


def scale(pool: PoolView, now: float) -> Scale:
    """One instance for each waiting invocation that no starting one will take, up to the limit; idle ones end."""
    lifetime = 0.0 if pool.retired else pool.idle_timeout
    spare = max(0, len(pool.idle_since) - pool.waiting)
    old = sorted((since, id) for id, since in pool.idle_since if now - since >= lifetime)
    end = tuple(id for _, id in old[:spare])
    wanted = pool.waiting - pool.starting - len(pool.idle_since)
    start = max(0, min(wanted, pool.max_instances - pool.alive))
    reason = (
        f"{pool.waiting} waiting, {pool.starting} starting, {len(pool.idle_since)} idle, "
        f"{pool.alive} of {pool.max_instances} alive"
    )
    return Scale(start, end, reason)
