"""How many instances a function should have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

PANIC_FACTOR = 2.0
"""So many times the work that the instances can take is a burst: what it needs is started at once."""
COMPUTES_SECONDS = 0.005
"""From so much processor time on an invocation is one that computes."""
PATIENCE_SECONDS = 1.0
SPARE = 1.5
"""Instances that compute, for each processor: some are between two invocations."""
PANIC_SECONDS = 6.0
"""So long after a burst nothing is ended (at most twice the idle timeout): bursts come in groups."""


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
    service_s: float | None = None
    """How long an invocation takes of late; None: not known yet."""
    start_s: float | None = None
    """How long a start takes of late."""
    oldest_wait_s: float = 0.0
    """The queue's delay: how long the first invocation has waited."""
    devices_free: int | None = None
    """Devices that a further instance could have now; None: the function needs none."""
    room: int | None = None
    """Instances for which node and tenant have memory; None: not known."""
    panic_until: float = 0.0
    """What the last decision said."""
    cpu_s: float | None = None
    """Processor time of an invocation, of late."""
    best_s: float | None = None
    """How long an invocation takes where nothing holds it up."""
    cores: int = 1
    running: int | None = None
    """Invocations that are being served; None: one by each instance that is not idle."""
    concurrency: int = 1
    """Invocations that an instance serves at a time."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Start `start` instances, end those in `end`; `reason` says why in one line."""

    start: int
    end: tuple[str, ...]
    reason: str
    panic_until: float = 0.0
    """For the next decision."""


def scale(pool: PoolView, now: float) -> Scale:
    """One instance for each invocation that waits or runs (or for as many as one serves at a time), the buffer on top,
    within the limits; old idle ones end.

    The number of those that wait and run is the demand, and what a starting instance will take is counted already: a
    burst starts what it needs at once, and no more. Outside a burst a queue that the instances empty sooner than
    another could start is left to them.
    """
    idle = len(pool.idle_since)
    serving = pool.alive - pool.starting
    running = serving - idle if pool.running is None else pool.running
    # In instances: what those that run and wait would fill, and no fewer than serve something already.
    work = max(serving - idle, math.ceil((pool.waiting + running) / pool.concurrency))
    panic_until, why = pool.panic_until, ""
    if pool.retired:
        wanted, lifetime, panic_until = work, 0.0, 0.0
    else:
        wanted, lifetime = max(pool.min_instances, work + pool.buffer_instances if work else 0), pool.idle_timeout
        if pool.waiting and work > PANIC_FACTOR * max(1, serving):
            panic_until, why = now + min(PANIC_SECONDS, 2 * pool.idle_timeout), ", a burst"
        elif now >= panic_until and (drain_s := _drains_in(pool, serving)) is not None:
            wanted = min(wanted, max(pool.alive, pool.min_instances))
            why = f", whose queue is empty in {drain_s * 1000:.0f} ms, sooner than a start"
        if pool.waiting and (busy := _keep_processors_busy(pool)) is not None and busy < wanted:
            wanted = max(busy, pool.min_instances)
            why += f", {busy} keep {pool.cores} processors busy"
    wanted = min(wanted, pool.max_instances)
    old = sorted((since, id) for id, since in pool.idle_since if now - since >= lifetime)
    surplus = 0 if now < panic_until else min(idle - pool.waiting, pool.alive - wanted)
    end = tuple(id for _, id in old[: max(0, surplus)])
    start = max(0, wanted - pool.alive)
    start, limit = _limited(pool, start)
    reason = (
        f"{pool.waiting} waiting, {pool.starting} starting, {idle} idle, {pool.alive} alive, "
        f"{wanted} wanted of at most {pool.max_instances}{why}{limit}"
    )
    return Scale(start, end, reason, panic_until)


def _drains_in(pool: PoolView, serving: int) -> float | None:
    """Seconds in which the instances that serve empty the queue, if that is sooner than one more could help."""
    if not (pool.waiting and serving) or pool.service_s is None or pool.start_s is None:
        return None
    drain_s = pool.waiting * pool.service_s / (serving * pool.concurrency)
    return drain_s if max(drain_s, pool.oldest_wait_s) < pool.start_s else None


def _keep_processors_busy(pool: PoolView) -> int | None:
    """How many instances make use of all processors; more would compute side by side, each the longer.

    None where that is not what holds invocations up: they hardly compute, or wait longer than computing explains.
    """
    if pool.cpu_s is None or pool.best_s is None or pool.cpu_s < COMPUTES_SECONDS:
        return None
    if pool.oldest_wait_s > max(PATIENCE_SECONDS, 2 * pool.waiting * pool.cpu_s / pool.cores):
        return None
    return math.ceil(SPARE * pool.cores * max(1.0, pool.best_s / pool.cpu_s))


def _limited(pool: PoolView, start: int) -> tuple[int, str]:
    """No more than there are devices and memory for, and which of them it was."""
    if pool.devices_free is not None and start > pool.devices_free:
        # One that has no instance at all stands in line for a device; others wait for their own function's.
        in_line = 1 if pool.waiting and not pool.alive else 0
        devices = max(pool.devices_free, in_line)
        if start > devices:
            return devices, f", {pool.devices_free} devices are free"
    # Without any instance one more is asked for all the same: idle ones of other functions may make room.
    if pool.room is not None and start > max(pool.room, 1):
        return max(pool.room, 1), f", memory for {pool.room} more"
    return start, ""
