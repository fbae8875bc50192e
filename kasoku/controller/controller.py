"""The controller of one node: observe, decide (the pure packages do), act.

A warm invocation passes through `invoke` only: pick a free instance, use it, put it back. All else is a reaction to
something that changed (an invocation that found none, an instance that is ready or gone, a lease that moved) or time.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Container, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from kasoku.autoscaler.scale import scale
from kasoku.balancer.pick import pick
from kasoku.controller.explain import explain
from kasoku.controller.loans import Loans
from kasoku.controller.pool import Member, Pool, State, Ticket
from kasoku.leases.model import Decision, Expired, Granted, Lease, NoSuchDeviceError, Preempt, Reclaim, Refused, Waiting
from kasoku.leases.table import LeaseTable
from kasoku.node.agent import NodeAgent
from kasoku.node.errors import FunctionFailed, PlatformError
from kasoku.node.outcome import Invocation, Outcome
from kasoku.registry.model import FunctionVersion
from kasoku.scheduler.place import IdleView, Later, MakeRoom, Never, NodeView, Start, place
from kasoku.telemetry.events import Events

_log = logging.getLogger(__name__)
TICK_SECONDS = 0.1
TRIM_SECONDS = 3.0
"""After so long an idle instance gives back memory that holds nothing."""
MAX_WAITING = 1000
"""Invocations of one function that may wait; more are refused."""
MAX_HOLD_SECONDS = 60.0
"""The longest pause between starts that fail and that nobody waits for."""
GRACE_SECONDS = 10.0
"""By how much a lease outlives the timeout of what its holder does."""


@dataclass(slots=True)
class Served:
    """An outcome and who produced it."""

    outcome: Outcome
    instance_id: str
    pid: int | None
    broker_pid: int | None
    guest: str
    accelerator: str | None
    cold: bool
    timings: dict[str, float]
    """Milliseconds: waiting, the start if this invocation was the first, and the invocation itself."""


class Controller:
    """See the module. Everything runs on one event loop, so nothing here is locked."""

    def __init__(self, node: NodeAgent, leases: LeaseTable, events: Events) -> None:
        self.node = node
        self.leases = leases
        self.events = events
        self.pools: dict[str, Pool] = {}
        self.memory_limit: Callable[[str], int | None] = lambda tenant: None
        """MiB that the instances of a tenant may have together; None: no limit but the node's."""
        self._members: dict[str, Member] = {}
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._loans = Loans(leases, self._on_returned)
        node.lend_devices(self._loans.lend)
        self._clock = asyncio.create_task(self._follow_time())

    async def invoke(self, function: FunctionVersion, invocation: Invocation) -> Served:
        """Run one event. Raises FunctionFailed when the function itself could not start, else PlatformError."""
        pool = self._pool(function)
        asked = time.monotonic()
        member = None if pool.tickets else pick(pool.members.values(), random.randrange)
        if member is None:
            member = await self._wait(pool, asked)
        else:
            self._claim(member)
        waited_ms = (time.monotonic() - asked) * 1000
        instance, start_timings = member.instance, member.start_timings
        assert instance is not None
        member.start_timings = {}
        try:
            outcome = await instance.invoke(invocation)
        except PlatformError:
            if self._closing:
                raise _closed() from None
            raise
        finally:
            self._put_away(member)
        before, member.cpu_s = member.cpu_s, instance.cpu_s
        # Of several that run beside each other nobody knows whose the time was.
        alone = function.options.concurrency == 1
        spent = member.cpu_s - before if alone and before is not None and member.cpu_s is not None else None
        pool.served(outcome.timings["duration_ms"] / 1000, spent)
        return Served(
            outcome=outcome,
            instance_id=member.id,
            pid=instance.pid,
            broker_pid=instance.broker_pid,
            guest=instance.guest_system,
            accelerator=member.lease.device.full_id if member.lease else None,
            cold=bool(start_timings),
            timings={"wait_ms": waited_ms, **start_timings, **outcome.timings},
        )

    def keep(self, functions: Iterable[FunctionVersion]) -> None:
        """Start what these functions want to have without work, now and from now on."""
        for function in functions:
            if function.options.min_instances and not self._closing:
                self._reconcile(self._pool(function))

    def retire(self, name: str, keep: Container[str]) -> None:
        """A function was deployed anew or removed: instances of versions not in `keep` end when they have no work."""
        for pool in list(self.pools.values()):
            if pool.function.name == name and pool.function.version not in keep:
                pool.retired = True
                self._reconcile(pool)

    def members(self) -> list[Member]:
        """All instances, for listings."""
        return list(self._members.values())

    def function_of(self, id: str) -> str:
        """The whole name of an instance's function; empty: it is gone."""
        member = self._members.get(id)
        return member.pool.function.name if member else ""

    async def close(self) -> None:
        """End everything; when this returns no process is left. May be called again."""
        self._closing = True
        self._clock.cancel()
        for pool in self.pools.values():
            while pool.fail_ticket(_closed()):
                pass
        for member in list(self._members.values()):
            self._end(member, "the server is shutting down")
        tasks = [m.task for m in self._members.values() if m.task]
        await asyncio.gather(*tasks, *self._tasks, self._clock, return_exceptions=True)

    def _pool(self, function: FunctionVersion) -> Pool:
        if self._closing:
            raise _closed()
        pool = self.pools.get(function.version)
        if pool is None:
            pool = self.pools[function.version] = Pool(function)
        pool.retired = False
        return pool

    async def _wait(self, pool: Pool, now: float) -> Member:
        if len(pool.tickets) >= MAX_WAITING:
            raise PlatformError(
                "TooManyRequestsException", f"{MAX_WAITING} invocations of {pool.function.name} wait already"
            )
        options = pool.function.options
        ticket = Ticket(now, now + options.lease_timeout, asyncio.get_running_loop().create_future())
        pool.tickets.append(ticket)
        self._wanted.set()
        # With all instances that there may be, one that becomes free takes it: nothing is to be decided.
        if len(pool.members) < options.max_instances or pool.alive < options.max_instances:
            self._reconcile(pool)
        try:
            return await ticket.future
        except asyncio.CancelledError:
            if ticket in pool.tickets:
                pool.tickets.remove(ticket)
            elif ticket.future.done() and not ticket.future.cancelled() and not ticket.future.exception():
                member = ticket.future.result()
                member.outstanding -= 1
                self._give_back(member)
            raise

    def _claim(self, member: Member) -> None:
        member.state, member.idle_since = State.BUSY, None
        member.outstanding += 1
        member.used_at = time.monotonic()
        if member.lease:
            deadline = time.monotonic() + member.pool.function.options.timeout + GRACE_SECONDS
            self.leases.renew(member.lease.device.id, member.lease.epoch, deadline, idle=False)

    def _put_away(self, member: Member) -> None:
        """An invocation has ended."""
        member.outstanding -= 1
        if member.pool.function.options.isolation == "invocation" and not self._closing:
            member.state = State.STARTING
            member.task = asyncio.create_task(self._run_reset(member))
        else:
            self._give_back(member)

    async def _run_reset(self, member: Member) -> None:
        """Nobody finds what was left in an instance: it is put back to its snapshot, or ends."""
        assert member.instance is not None
        clean = False
        try:
            clean = await member.instance.reset()
        except asyncio.CancelledError:
            pass  # it is to end
        except Exception:
            _log.exception("%s cannot be put back to its snapshot", member.id)
        if clean and member.state is State.STARTING:
            self._give_back(member)
            self._reconcile_all()
        else:
            ended, reason = member.instance.ended, "it serves one invocation"
            if member.state is State.STARTING:
                self._tell(member.pool, "ended", f"{member.id} ends: {ended.result() if ended.done() else reason}")
            member.state = State.ENDING
            await self._run_end(member, reason)

    def _give_back(self, member: Member) -> None:
        instance, pool = member.instance, member.pool
        if instance is None or instance.ended.done() or self._closing:
            if not member.outstanding:
                self._end(member, "it cannot be used again")
            return
        if member.suspended:
            if not member.outstanding:
                self._end(member, "its device was taken")
            return
        now = time.monotonic()
        free = pool.function.options.concurrency - member.outstanding
        if pool.tickets and not self._is_wanted_elsewhere(member, now):
            while free > 0 and self._hand_over(pool, member):
                free -= 1
        if member.outstanding:
            return
        member.state, member.idle_since, member.used_at, member.trimmed = State.IDLE, now, now, False
        if member.lease:
            deadline = now + pool.function.options.idle_timeout + GRACE_SECONDS
            self._act(self.leases.renew(member.lease.device.id, member.lease.epoch, deadline, idle=True))
        if pool.retired or pool.function.options.idle_timeout == 0:
            self._reconcile(pool)
        self._wanted.set()

    def _is_wanted_elsewhere(self, member: Member, now: float) -> bool:
        """Whether its device should go to another function before this one's next invocation."""
        if member.lease is None:
            return False
        first, options = member.pool.tickets[0], member.pool.function.options
        return self.leases.goes_before(member.lease.device.id, options.priority, first.asked_at, now)

    def _hand_over(self, pool: Pool, member: Member) -> bool:
        """Give a free member to the first that waits."""
        while pool.tickets:
            ticket = pool.tickets.popleft()
            if not ticket.future.done():
                self._claim(member)
                ticket.future.set_result(member)
                return True
        return False

    def _reconcile(self, pool: Pool) -> None:
        """Let the autoscaler look at a pool, and do what it says as far as there is room."""
        if self._closing:
            return
        now = time.monotonic()
        decision = scale(pool.view(now, self._devices_free(pool), self._room(pool)), now)
        pool.panic_until = decision.panic_until
        if decision.end:
            self._tell(pool, "scale", f"{len(decision.end)} fewer: {decision.reason}")
        started = 0
        for id in decision.end:
            self._end(pool.members[id], "it was idle")
        start = decision.start if now >= pool.hold_until else min(decision.start, len(pool.tickets))
        for _ in range(start):
            if not self._start_one(pool):
                break
            started += 1
        if started:
            self._tell(pool, "scale", f"{started} more: {decision.reason}")
        if pool.retired and not pool.members and not pool.tickets:
            self.pools.pop(pool.function.version, None)
        elif pool.function.options.min_instances:
            self._wanted.set()

    def _devices_free(self, pool: Pool) -> int | None:
        """Devices that one more of its instances could have now; None: not the autoscaler's business."""
        options = pool.function.options
        if options.accelerator is None or options.lease == "refuse":
            return None
        return self.leases.free(options.accelerator)

    def _room(self, pool: Pool) -> int:
        """Instances for which node and tenant have memory."""
        members, tenant = self._members.values(), pool.function.tenant
        room = self.node.memory_mib - sum(m.memory_mib for m in members)
        if (limit := self.memory_limit(tenant)) is not None:
            room = min(room, limit - sum(m.memory_mib for m in members if m.pool.function.tenant == tenant))
        return max(0, room // pool.need_mib)

    def _start_one(self, pool: Pool) -> bool:
        """Start one more instance, or put it in line; False when no further one can be started now."""
        members = self._members.values()
        view = NodeView(
            memory_mib=self.node.memory_mib,
            used_mib=sum(m.memory_mib for m in members),
            starting=sum(1 for m in members if m.state is State.STARTING),
            max_starting=self.node.max_starting,
        )
        others = [
            IdleView(m.id, m.memory_mib, m.idle_since)
            for m in members
            if m.idle_since is not None and m.pool is not pool
        ]
        decision = self._place_within_tenant(pool) or place(view, pool.need_mib, others)
        match decision:
            case Never(reason):
                pool.fail_ticket(PlatformError("InvalidParameterValueException", reason))
                return True
            case Later():
                return False
            case MakeRoom(ids):
                for id in ids:
                    self._end(self._members[id], "its memory is needed")
                return False
        member = Member(f"i-{secrets.token_hex(6)}", pool, time.monotonic())
        selector = pool.function.options.accelerator
        if selector is None:
            self._add(member)
            self._launch(member)
            return True
        return self._start_with_device(member, selector)

    def _place_within_tenant(self, pool: Pool) -> MakeRoom | Later | Never | None:
        """What the tenant's own limit says, if it says no."""
        tenant = pool.function.tenant
        limit = self.memory_limit(tenant)
        if limit is None:
            return None
        own = [m for m in self._members.values() if m.pool.function.tenant == tenant]
        share = NodeView(limit, sum(m.memory_mib for m in own), starting=0, max_starting=1)
        idle = [
            IdleView(m.id, m.memory_mib, m.idle_since) for m in own if m.idle_since is not None and m.pool is not pool
        ]
        match place(share, pool.need_mib, idle):
            case Start():
                return None
            case Never():
                return Never(f"the function needs {pool.need_mib} MiB, {tenant} may have {limit} MiB in all")
            case decision:
                return decision

    def _start_with_device(self, member: Member, selector: str) -> bool:
        pool, options, now = member.pool, member.pool.function.options, time.monotonic()
        try:
            self.leases.check(selector)
        except NoSuchDeviceError as error:
            reason = f"{error}. {self.node.device_error}".strip()
            return pool.fail_ticket(PlatformError("InvalidParameterValueException", reason))
        if not pool.tickets and not self.leases.could_grant(selector):
            return False  # what nobody waits for takes no device from others
        if pool.alive and not self.leases.could_grant(selector):
            # Its own instances hold what there is: waiting for one of them is quicker than for a lease.
            return options.lease == "refuse" and pool.fail_ticket(_refusal(selector), last=True)
        self._add(member)
        deadline = pool.tickets[0].deadline if pool.tickets else now + options.lease_timeout
        wait = options.lease == "wait" or self._loans.holds(selector)
        self._act(
            self.leases.ask(
                member.id,
                selector,
                now,
                wait=wait,
                deadline=deadline,
                term=options.init_timeout + GRACE_SECONDS,
                priority=options.priority,
                group=pool.function.tenant or pool.function.name,
            )
        )
        return True

    def _tell(self, pool: Pool, kind: str, text: str) -> None:
        self.events.add(kind, text, function=pool.function.name)

    def _tell_lease(self, decision: Decision) -> None:
        owner = decision.lease.owner if isinstance(decision, Preempt | Reclaim | Expired) else decision.owner
        name = self.function_of(owner)
        self.events.add("lease", explain(decision), **({"function": name} if name else {}))

    @staticmethod
    def _is_kept(pool: Pool) -> bool:
        """Whether the pool wants as many instances as it has, without work."""
        return not pool.retired and pool.alive <= pool.function.options.min_instances

    def _add(self, member: Member) -> None:
        self._members[member.id] = member.pool.members[member.id] = member

    def _act(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Preempt) and self._members[decision.lease.owner].state is not State.BUSY:
                # It is being started, or has ended its work: `renew` and `release` see to those who wait.
                self.leases.kept(decision.lease.device.id, decision.lease.epoch)
                continue
            self._tell_lease(decision)
            match decision:
                case Granted(owner, lease, True):
                    member = self._members[owner]
                    member.lease = lease
                    self._spawn(self._resume(member, lease))
                case Granted(owner, lease):
                    member = self._members[owner]
                    member.lease = lease
                    if member.pool.tickets or self._is_kept(member.pool):
                        member.start_timings["lease_ms"] = (time.monotonic() - member.asked_at) * 1000
                        self._launch(member)
                    else:
                        self._forget(member)
                case Refused(owner, reason):
                    member = self._members[owner]
                    if member.instance is not None:  # it was suspended, and is not let go on
                        self._end(member, reason)
                        continue
                    member.pool.fail_ticket(PlatformError("TooManyRequestsException", reason))
                    self._forget(member)
                case Preempt(lease):
                    if not self._loans.recall(lease):
                        self._spawn(self._suspend(self._members[lease.owner], lease))
                case Reclaim(lease):
                    if not self._loans.recall(lease):
                        self._end(self._members[lease.owner], "its device is wanted")
                case Expired(lease):
                    self._end(self._members[lease.owner], "its lease ran out")
                case Waiting():
                    pass

    async def _suspend(self, member: Member, lease: Lease) -> None:
        """Take a device from one that works, whose session waits in its broker."""
        device = lease.device
        assert member.instance
        try:
            await member.instance.suspend()
        except PlatformError as error:
            self._tell(member.pool, "lease", f"{member.id} keeps {device.full_id}: {error.message[:200]}")
            if member.lease is lease:
                self.leases.kept(device.id, lease.epoch)
            return
        if member.lease is not lease or self._closing:
            return
        if member.state is not State.BUSY:  # its work has ended meanwhile
            self._end(member, "its device is wanted")
            return
        self._tell(member.pool, "lease", f"{member.id} is suspended: {device.full_id} goes to higher priority")
        member.lease, member.suspended = None, True
        now = time.monotonic()
        deadline = now + member.pool.function.options.lease_timeout
        self._act(self.leases.suspended(device.id, lease.epoch, now, deadline))

    async def _resume(self, member: Member, lease: Lease) -> None:
        """Let a suspended one go on; one that cannot ends, and its caller is told to try again."""
        assert member.instance
        try:
            await member.instance.resume(lease)
        except PlatformError as error:
            self._end(member, f"its session could not go on: {error.message[:200]}")
            return
        member.suspended = False
        self._tell(member.pool, "lease", f"{member.id} goes on with {lease.device.full_id}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _launch(self, member: Member) -> None:
        member.state, member.launched_at = State.STARTING, time.monotonic()
        member.instance = self.node.instance(member.id, member.pool.function, member.lease)
        member.task = asyncio.create_task(self._run_start(member))

    async def _run_start(self, member: Member) -> None:
        instance, pool = member.instance, member.pool
        assert instance is not None
        try:
            await instance.start()
        except (FunctionFailed, PlatformError) as error:
            self._tell(pool, "failed", f"{member.id} did not start: {str(error)[:300]}")
            pool.failures += 1
            pool.hold_until = time.monotonic() + min(MAX_HOLD_SECONDS, 2.0 ** min(pool.failures, 10) / 2)
            pool.fail_ticket(error)
            self._forget(member)
            return
        except BaseException:
            self._forget(member)
            raise
        pool.failures = 0
        pool.started(time.monotonic() - member.launched_at)
        member.cpu_s = instance.cpu_s
        took = ", ".join(f"{name.removesuffix('_ms')} {value:.1f} ms" for name, value in instance.timings.items())
        self._tell(pool, "started", f"{member.id} is ready: {took}")
        if pool.tickets:
            member.start_timings.update(instance.timings)
        else:
            member.start_timings = {}  # nobody waited for this start: its first invocation is a warm one
        instance.ended.add_done_callback(lambda _: self._on_ended(member))
        self._give_back(member)
        self._reconcile_all()

    def _on_ended(self, member: Member) -> None:
        if member.state is State.IDLE:
            self._end(member, "it died")

    def _end(self, member: Member, reason: str) -> None:
        """Begin the end of a member, whatever state it is in."""
        if member.state is State.ENDING:
            return
        if member.state is State.IN_LINE:
            self._forget(member)
            return
        self._tell(member.pool, "ended", f"{member.id} ends: {reason}")
        starting = member.task if member.state is State.STARTING else None
        member.state, member.idle_since = State.ENDING, None
        if starting and not starting.done() and starting is not asyncio.current_task():
            starting.cancel()  # `Instance.start` cleans up, `_run_start` forgets
            return
        member.task = asyncio.create_task(self._run_end(member, reason))

    async def _run_end(self, member: Member, reason: str) -> None:
        assert member.instance is not None
        try:
            await member.instance.stop(reason)
        finally:
            self._forget(member)

    def _forget(self, member: Member) -> None:
        """The member is gone: its device goes to the next in line, its memory to whoever waits for it."""
        if self._members.pop(member.id, None) is None:
            return
        member.pool.members.pop(member.id, None)
        self.leases.cancel(member.id)
        if member.lease:
            decisions = self.leases.release(member.lease.device.id, member.lease.epoch, time.monotonic())
            member.lease = None
            if self._closing:
                return
            self._act(decisions)
        self._reconcile_all()

    def _on_returned(self, decisions: list[Decision]) -> None:
        """A device that was lent is back."""
        if not self._closing:
            self._act(decisions)
            self._reconcile_all()

    def _reconcile_all(self) -> None:
        for pool in list(self.pools.values()):
            if pool.tickets or pool.retired or pool.wants:
                self._reconcile(pool)
        self._loans.offer()

    async def _follow_time(self) -> None:
        """Deadlines and idle timeouts. Sleeps while nothing exists that could time out."""
        while True:
            await self._wanted.wait()
            if not self._members and not any(p.tickets or p.wants for p in self.pools.values()):
                self._wanted.clear()
                continue
            try:
                self._tick(time.monotonic())
            except Exception:  # a fault in one tick must not stop the clock of all functions
                _log.exception("the controller's clock met an error")
            await asyncio.sleep(TICK_SECONDS)

    def _tick(self, now: float) -> None:
        self._act([*self.leases.expire(now), *self.leases.preempt()])
        for pool in list(self.pools.values()):
            while pool.tickets and pool.tickets[0].deadline <= now:
                waited = (
                    f"no instance of {pool.function.name} became free within {pool.function.options.lease_timeout:g} s"
                )
                pool.fail_ticket(PlatformError("TooManyRequestsException", waited))
            self._reconcile(pool)
        for member in self._members.values():
            idle = member.idle_since is not None and now - member.idle_since >= TRIM_SECONDS
            if idle and not member.trimmed and member.instance:
                member.trimmed = True
                self._spawn(member.instance.trim())


def _closed() -> PlatformError:
    return PlatformError("ServiceException", "the server is shutting down; try again when it is back")


def _refusal(selector: str) -> PlatformError:
    return PlatformError(
        "TooManyRequestsException", f"every device that matches {selector!r} is in use, by this function itself"
    )
