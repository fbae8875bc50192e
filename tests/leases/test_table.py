"""The lease table: exclusive, first come first served, epochs, deadlines, reclaim of idle holders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasoku.leases.model import (
    Device,
    Expired,
    Granted,
    Lease,
    NoSuchDeviceError,
    Preempt,
    Reclaim,
    Refused,
    StaleLeaseError,
    Waiting,
)
from kasoku.leases.table import LeaseTable

CPU = Device("intel:0", "opencl", "cpu", "a CPU")
GPU = Device("nv:0", "opencl", "gpu", "a GPU")


def ask(table: LeaseTable, owner: str, selector: str = "opencl", now: float = 0.0, wait: bool = True) -> list[object]:
    return list(table.ask(owner, selector, now, wait=wait, deadline=now + 100, term=30))


def granted(decisions: list[object]) -> Lease:
    (decision,) = decisions
    assert isinstance(decision, Granted)
    return decision.lease


def test_selectors() -> None:
    for selector in ("opencl", "opencl:cpu", "opencl:intel", "opencl:intel:0"):
        assert CPU.matches(selector)
    for selector in ("cuda", "opencl:gpu", "opencl:intel:1", "opencl:nv"):
        assert not CPU.matches(selector)


def test_first_come_first_served() -> None:
    table = LeaseTable([CPU])
    first = granted(ask(table, "a"))
    assert ask(table, "b") == [Waiting("b", 0)]
    assert ask(table, "c") == [Waiting("c", 1)]
    assert granted(list(table.release("intel:0", first.epoch, 1))).owner == "b"


def test_priority_goes_first_then_who_used_least_then_who_came_first() -> None:
    table = LeaseTable([CPU])

    def line(owner: str, now: float, priority: int = 0, group: str = "") -> list[object]:
        return list(table.ask(owner, "opencl", now, wait=True, deadline=1000, term=30, priority=priority, group=group))

    holder = granted(line("busy-1", 0, group="busy"))
    assert line("busy-2", 1, group="busy") == [Waiting("busy-2", 0)]
    assert line("new-1", 2, group="new") == [Waiting("new-1", 1)]
    told = line("urgent", 3, priority=5, group="busy")
    assert told == [Waiting("urgent", 0), Preempt(holder)], "nobody of its rank is before it"
    assert table.goes_before("intel:0", priority=0, asked_at=0.5, now=4)
    assert not table.goes_before("intel:0", priority=6, asked_at=9, now=4)
    order = []
    for now in (10.0, 11.0, 12.0):
        holder = granted(list(table.release("intel:0", holder.epoch, now)))
        order.append(holder.owner)
    assert order == ["urgent", "new-1", "busy-2"]
    table.release("intel:0", holder.epoch, 13)
    assert table.used("busy", 13) > table.used("new", 13) > 0
    assert table.used("busy", 13 + 600) < table.used("busy", 13) / 3, "old use is forgotten by and by"


def test_refuse_answers_at_once_and_names_the_holder() -> None:
    table = LeaseTable([CPU])
    granted(ask(table, "a"))
    (decision,) = ask(table, "b", wait=False)
    assert isinstance(decision, Refused) and "opencl:intel:0 by a" in decision.reason
    assert not table.queue


def test_nobody_overtakes_the_line() -> None:
    table = LeaseTable([CPU, GPU])
    cpu = granted(ask(table, "a", "opencl:cpu"))
    granted(ask(table, "b", "opencl:gpu"))
    ask(table, "c", "opencl")
    table.release("intel:0", cpu.epoch, 1)
    assert table.leases["intel:0"].owner == "c"
    (decision,) = ask(table, "d", "opencl:gpu", wait=False)
    assert isinstance(decision, Refused)


def test_an_idle_holder_is_asked_to_stop_once() -> None:
    table = LeaseTable([CPU])
    lease = granted(ask(table, "a"))
    assert table.renew("intel:0", lease.epoch, 50, idle=True) == []
    assert ask(table, "b") == [Waiting("b", 0), Reclaim(lease)]
    assert ask(table, "c") == [Waiting("c", 1)]
    assert table.renew("intel:0", lease.epoch, 50, idle=True) == []


def test_a_busy_holder_is_asked_when_it_becomes_idle() -> None:
    table = LeaseTable([CPU])
    lease = granted(ask(table, "a"))
    assert ask(table, "b") == [Waiting("b", 0)]
    assert table.renew("intel:0", lease.epoch, 50, idle=True) == [Reclaim(lease)]


def test_a_stale_holder_is_refused() -> None:
    table = LeaseTable([CPU], first_epoch=7)
    lease = granted(ask(table, "a"))
    assert lease.epoch == 7
    table.release("intel:0", lease.epoch, 1)
    granted(ask(table, "b"))
    with pytest.raises(StaleLeaseError):
        table.release("intel:0", 7, 2)
    with pytest.raises(StaleLeaseError):
        table.renew("intel:0", 7, 9, idle=False)


def test_deadlines() -> None:
    table = LeaseTable([CPU])
    lease = granted(ask(table, "a"))
    ask(table, "b", now=10)
    assert table.expire(29) == []
    assert table.expire(30) == [Expired(lease)]
    assert table.expire(31) == [], "told once"
    assert "intel:0" in table.leases, "free only when the holder is gone"
    (decision,) = table.expire(110)
    assert isinstance(decision, Refused) and decision.owner == "b"


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    table = LeaseTable([CPU])
    with pytest.raises(NoSuchDeviceError, match="opencl:intel:0"):
        table.check("opencl:gpu")
    with pytest.raises(NoSuchDeviceError, match="no accelerator at all"):
        LeaseTable([]).check("opencl")


def urgent(table: LeaseTable, owner: str, priority: int, now: float, selector: str = "opencl") -> list[object]:
    return list(table.ask(owner, selector, now, wait=True, deadline=now + 100, term=30, priority=priority))


def test_a_busy_holder_of_lower_priority_is_preempted_and_comes_back() -> None:
    table = LeaseTable([CPU])
    lease = granted(urgent(table, "low", 1, 0))
    assert urgent(table, "equal", 1, 1) == [Waiting("equal", 0)], "equals take turns"
    assert urgent(table, "high", 5, 2) == [Waiting("high", 0), Preempt(lease)]
    assert table.preempt() == [], "told once"
    table.kept("intel:0", lease.epoch)
    assert table.preempt() == [Preempt(lease)], "its commands did not come to rest: asked again"
    high = granted(list(table.suspended("intel:0", lease.epoch, 3, deadline=500)))
    assert high.owner == "high" and high.epoch > lease.epoch
    with pytest.raises(StaleLeaseError):
        table.renew("intel:0", lease.epoch, 9, idle=False)
    (decision,) = table.release("intel:0", high.epoch, 4)
    assert isinstance(decision, Granted) and decision.owner == "low" and decision.resumes
    assert decision.lease.deadline == 4 + 27, "what was left of its time"


def test_preemption_takes_from_the_least_and_only_what_is_needed() -> None:
    table = LeaseTable([CPU, GPU])
    first, second = granted(urgent(table, "a", 2, 0)), granted(urgent(table, "b", 1, 1))
    assert urgent(table, "c", 3, 2)[1:] == [Preempt(second)]
    assert urgent(table, "d", 3, 3)[1:] == [Preempt(first)]
    assert urgent(table, "e", 3, 4)[1:] == []
    table.cancel("c")
    table.cancel("d")
    table.cancel("e")
    back = granted(list(table.suspended(second.device.id, second.epoch, 5, deadline=500)))
    assert back.owner == "b", "nobody wants it any more: it goes on at once"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "release", "idle", "busy", "cancel", "expire", "suspend", "keep"]),
            st.integers(0, 5),
        ),
        max_size=60,
    )
)
def test_any_sequence_keeps_the_invariants(steps: list[tuple[str, int]]) -> None:
    table = LeaseTable([CPU, GPU])
    last_epoch = 0
    for now, (step, number) in enumerate(steps):
        owner = f"o{number}"
        mine = [lease for lease in table.leases.values() if lease.owner == owner]
        if step == "ask" and not mine and all(r.owner != owner for r in table.queue):
            urgent(table, owner, number, now, ("opencl", "opencl:cpu", "opencl:gpu")[number % 3])
        elif step == "release" and mine:
            table.release(mine[0].device.id, mine[0].epoch, now)
        elif step in ("idle", "busy") and mine:
            table.renew(mine[0].device.id, mine[0].epoch, now + 30, idle=step == "idle")
        elif step == "suspend" and mine and mine[0].reclaimed and not mine[0].idle:
            table.suspended(mine[0].device.id, mine[0].epoch, now, now + 50)
        elif step == "keep" and mine:
            table.kept(mine[0].device.id, mine[0].epoch)
        elif step == "cancel":
            table.cancel(owner)
        elif step == "expire":
            table.expire(now)
        epochs = [lease.epoch for lease in table.leases.values()]
        assert len(set(epochs)) == len(epochs)
        assert all(lease.device.id == id for id, lease in table.leases.items())
        assert max([last_epoch, *epochs]) >= last_epoch
        last_epoch = max([last_epoch, *epochs])
        for told in table.preempt():
            assert isinstance(told, Preempt)
            wanted = [r for r in table.queue if told.lease.device.matches(r.selector)]
            assert any(r.priority > told.lease.priority for r in wanted), "only a higher priority takes a device away"
        owners = [r.owner for r in table.queue] + [lease.owner for lease in table.leases.values()]
        assert len(set(owners)) == len(owners), "nobody holds one and waits"
        for request in table.queue:
            held = [d for d in table.devices.values() if d.matches(request.selector)]
            assert all(d.id in table.leases for d in held), "nobody waits while a device is free"
