"""The instances of one version of a function, and the invocations that wait for one."""

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from kasoku.autoscaler.scale import PoolView
from kasoku.leases.model import Lease
from kasoku.node.instance import Instance
from kasoku.registry.model import FunctionVersion

WEIGHT = 0.2
"""Of the latest value in what is said to be so of late."""


FORGET = 0.01
"""Of the latest value in the best one, which may have been better than it will ever be again."""
CORES = os.cpu_count() or 1


class State(Enum):
    """Where a member is in its life. It only ever moves down this list, and between IDLE and BUSY."""

    IN_LINE = "waiting for a device"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ENDING = "ending"


@dataclass(eq=False)
class Member:
    """One instance of a pool, or the promise of one."""

    id: str
    pool: "Pool"
    asked_at: float
    state: State = State.IN_LINE
    lease: Lease | None = None
    instance: Instance | None = None
    launched_at: float = 0.0
    cpu_s: float | None = None
    """Processor time of its VM after its last work."""
    outstanding: int = 0
    """Invocations that it serves."""
    idle_since: float | None = None
    trimmed: bool = False
    """It has given back what it can since its last work."""
    used_at: float = 0.0
    """When it was last given an invocation, or became free."""
    start_timings: dict[str, float] = field(default_factory=dict)
    """What the start cost, until the first invocation has been told."""
    task: "asyncio.Task[None] | None" = None
    suspended: bool = False
    """Its device was taken in the middle of an invocation; it waits for one like it."""

    @property
    def room(self) -> int:
        """Invocations that it could take now."""
        if self.state not in (State.IDLE, State.BUSY) or self.suspended or self.instance is None:
            return 0
        if self.instance.ended.done():  # it finishes what it has
            return 0
        return self.pool.function.options.concurrency - self.outstanding

    @property
    def memory_mib(self) -> int:
        """Memory that the node must set aside; one in line uses none yet."""
        return 0 if self.state is State.IN_LINE else self.pool.need_mib


@dataclass(eq=False)
class Ticket:
    """An invocation that waits; the future becomes a member that is BUSY for it, or an error."""

    asked_at: float
    deadline: float
    future: "asyncio.Future[Member]"


@dataclass(eq=False)
class Pool:
    """See the module."""

    function: FunctionVersion
    members: dict[str, Member] = field(default_factory=dict)
    tickets: "deque[Ticket]" = field(default_factory=deque)
    retired: bool = False
    failures: int = 0
    """Starts that failed one after the other."""
    panic_until: float = 0.0
    """The autoscaler's own: what it saw was a burst."""
    service_s: float | None = None
    """How long an invocation takes, of late."""
    best_s: float | None = None
    """How long one takes where nothing holds it up."""
    cpu_s: float | None = None
    """Processor time of one, of late."""
    start_s: float | None = None
    """How long a start takes, of late."""
    hold_until: float = 0.0
    """Until then nothing is started that no invocation waits for: what fails to start must not do so in a circle."""

    @property
    def need_mib(self) -> int:
        """Memory of one instance, the session of its accelerator included."""
        options = self.function.options
        return options.memory + (options.arena if options.accelerator else 0)

    def count(self, *states: State) -> int:
        """How many members are in one of these states."""
        return sum(1 for m in self.members.values() if m.state in states)

    @property
    def alive(self) -> int:
        """Members that serve or will serve."""
        return len(self.members) - self.count(State.ENDING)

    def served(self, seconds: float, cpu_s: float | None) -> None:
        """An invocation took so long, and so much processor time."""
        self.service_s = seconds if self.service_s is None else self.service_s + WEIGHT * (seconds - self.service_s)
        if self.best_s is None or seconds < self.best_s:
            self.best_s = seconds
        else:
            self.best_s += FORGET * (seconds - self.best_s)
        if cpu_s is not None:
            self.cpu_s = cpu_s if self.cpu_s is None else self.cpu_s + WEIGHT * (cpu_s - self.cpu_s)

    def started(self, seconds: float) -> None:
        """A start took so long."""
        self.start_s = seconds if self.start_s is None else self.start_s + WEIGHT * (seconds - self.start_s)

    def view(self, now: float, devices_free: int | None, room: int) -> PoolView:
        """What the autoscaler sees."""
        return PoolView(
            waiting=len(self.tickets),
            starting=self.count(State.IN_LINE, State.STARTING),
            alive=self.alive,
            idle_since=[(m.id, m.idle_since) for m in self.members.values() if m.idle_since is not None],
            max_instances=self.function.options.max_instances,
            idle_timeout=self.function.options.idle_timeout,
            running=sum(m.outstanding for m in self.members.values() if m.state is not State.ENDING),
            concurrency=self.function.options.concurrency,
            retired=self.retired,
            min_instances=self.function.options.min_instances,
            buffer_instances=self.function.options.buffer_instances,
            service_s=self.service_s,
            start_s=self.start_s,
            oldest_wait_s=now - self.tickets[0].asked_at if self.tickets else 0.0,
            devices_free=devices_free,
            room=room,
            panic_until=self.panic_until,
            cpu_s=self.cpu_s,
            best_s=self.best_s,
            cores=CORES,
        )

    @property
    def wants(self) -> bool:
        """Whether instances are missing that are kept without work."""
        return not self.retired and self.alive < self.function.options.min_instances

    def fail_ticket(self, error: Exception, *, last: bool = False) -> bool:
        """Give the first (or last) waiting invocation an error; False if none waits."""
        while self.tickets:
            ticket = self.tickets.pop() if last else self.tickets.popleft()
            if not ticket.future.done():
                ticket.future.set_exception(error)
                return True
        return False
