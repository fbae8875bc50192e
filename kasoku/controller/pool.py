"""The instances of one version of a function, and the invocations that wait for one."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from kasoku.autoscaler.scale import PoolView
from kasoku.leases.model import Lease
from kasoku.node.instance import Instance
from kasoku.registry.model import FunctionVersion


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
    idle_since: float | None = None
    start_timings: dict[str, float] = field(default_factory=dict)
    """What the start cost, until the first invocation has been told."""
    task: "asyncio.Task[None] | None" = None

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

    def view(self) -> PoolView:
        """What the autoscaler sees."""
        return PoolView(
            waiting=len(self.tickets),
            starting=self.count(State.IN_LINE, State.STARTING),
            alive=self.alive,
            idle_since=[(m.id, m.idle_since) for m in self.members.values() if m.idle_since is not None],
            max_instances=self.function.options.max_instances,
            idle_timeout=self.function.options.idle_timeout,
            retired=self.retired,
            min_instances=self.function.options.min_instances,
            buffer_instances=self.function.options.buffer_instances,
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
