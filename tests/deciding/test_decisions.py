"""Balancer, scheduler and autoscaler: small tables of situations and what is decided."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasoku.autoscaler.scale import PoolView, scale
from kasoku.balancer.pick import pick
from kasoku.scheduler.place import IdleView, Later, MakeRoom, Never, NodeView, Start, place


@dataclass
class Candidate:
    used_at: float
    outstanding: int = 0
    room: int = 1


def draws(*numbers: int) -> Callable[[int], int]:
    """Chance that is none."""
    left = iter(numbers)
    return lambda below: next(left) % below


def test_the_last_used_free_instance_is_picked() -> None:
    old, new, full = Candidate(1.0), Candidate(5.0), Candidate(9.0, outstanding=1, room=0)
    assert pick([old, full, new], draws()) is new
    assert pick([full], draws()) is None
    assert pick([], draws()) is None


def test_of_two_that_are_drawn_the_less_loaded_one_is_picked() -> None:
    some = [Candidate(float(n), outstanding=load, room=8 - load) for n, load in enumerate((3, 1, 8, 1, 2))]
    assert pick(some, draws(0, 1)) is some[1] and pick(some, draws(1, 0)) is some[1]
    assert pick(some, draws(1, 2)) is some[3], "of equals the one used last; what is full was not drawn"
    assert pick(some, draws(0, 0)) is some[0]
    idle = Candidate(0.0, room=8)
    assert pick([*some, idle], draws()) is idle, "one that serves nothing comes first"


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30), st.randoms(use_true_random=False))
def test_what_is_picked_has_room(some: list[tuple[int, bool]], chance: Random) -> None:
    candidates = [Candidate(0.0, load, 4 - load if alive else 0) for load, alive in some]
    picked = pick(candidates, chance.randrange)
    assert (picked is not None) == any(c.room for c in candidates)
    if picked:
        assert picked.room and picked.outstanding <= max(c.outstanding for c in candidates if c.room)


@pytest.mark.parametrize(
    ("waiting", "running", "starting", "alive", "start"),
    [
        (1, 0, 0, 0, 1),
        (8, 0, 0, 0, 1),
        (8, 0, 1, 1, 0),
        (9, 0, 1, 1, 1),
        (1, 16, 0, 2, 1),
        (17, 0, 0, 0, 3),
        (0, 3, 0, 3, 0),
    ],
)
def test_scale_counts_what_an_instance_serves_beside_each_other(
    waiting: int, running: int, starting: int, alive: int, start: int
) -> None:
    view = PoolView(waiting, starting, alive, [], 20, 60, running=running, concurrency=8)
    assert scale(view, now=100).start == start


@pytest.mark.parametrize(
    ("waiting", "starting", "alive", "idle", "start", "end"),
    [
        (0, 0, 0, [], 0, ()),
        (1, 0, 0, [], 1, ()),
        (3, 1, 1, [], 2, ()),
        (9, 0, 0, [], 4, ()),
        (9, 2, 4, [], 0, ()),
        (0, 0, 2, [("a", 0.0), ("b", 95.0)], 0, ("a",)),
        (1, 0, 1, [("a", 0.0)], 0, ()),
    ],
)
def test_scale(
    waiting: int, starting: int, alive: int, idle: list[tuple[str, float]], start: int, end: tuple[str, ...]
) -> None:
    view = PoolView(waiting, starting, alive, idle, max_instances=4, idle_timeout=60)
    decided = scale(view, now=100)
    assert (decided.start, decided.end) == (start, end)


@pytest.mark.parametrize(
    ("waiting", "starting", "alive", "idle", "start", "end"),
    [
        (0, 0, 0, [], 2, ()),
        (0, 1, 1, [], 1, ()),
        (0, 0, 2, [("a", 0.0), ("b", 1.0)], 0, ()),
        (0, 0, 3, [("a", 0.0), ("b", 1.0), ("c", 2.0)], 0, ("a",)),
        (2, 0, 0, [], 3, ()),
        (0, 0, 2, [], 1, ()),
        (0, 0, 4, [], 0, ()),
        (9, 0, 0, [], 4, ()),
        (0, 0, 4, [("a", 0.0), ("b", 1.0), ("c", 99.0)], 0, ("a", "b")),
    ],
)
def test_scale_keeps_a_minimum_and_a_buffer(
    waiting: int, starting: int, alive: int, idle: list[tuple[str, float]], start: int, end: tuple[str, ...]
) -> None:
    view = PoolView(waiting, starting, alive, idle, 4, 60, min_instances=2, buffer_instances=1)
    decided = scale(view, now=100)
    assert (decided.start, decided.end) == (start, end)
    retired = scale(PoolView(0, 0, len(idle), idle, 4, 60, retired=True, min_instances=2), now=100)
    assert retired.start == 0 and len(retired.end) == len(idle), "of an older version nothing is kept"


@given(
    waiting=st.integers(0, 50),
    starting=st.integers(0, 20),
    busy=st.integers(0, 20),
    idle=st.lists(st.floats(0, 100), max_size=20),
    bounds=st.tuples(st.integers(0, 10), st.integers(1, 30), st.integers(0, 10)),
    retired=st.booleans(),
    times=st.tuples(st.none() | st.floats(0, 10), st.none() | st.floats(0, 10), st.floats(0, 10)),
    limits=st.tuples(st.none() | st.integers(0, 10), st.none() | st.integers(0, 10), st.floats(0, 200)),
)
def test_scale_stays_within_its_bounds(
    waiting: int,
    starting: int,
    busy: int,
    idle: list[float],
    bounds: tuple[int, int, int],
    retired: bool,
    times: tuple[float | None, float | None, float],
    limits: tuple[int | None, int | None, float],
) -> None:
    least, most, buffer = bounds
    least = min(least, most)
    alive = starting + busy + len(idle)
    named = [(str(i), since) for i, since in enumerate(idle)]
    view = PoolView(waiting, starting, alive, named, most, 60, retired, least, buffer, *times, *limits)
    decided = scale(view, now=100)
    assert 0 <= decided.start <= max(0, most - alive)
    assert not (decided.start and decided.end)
    left = len(idle) - len(decided.end)
    assert left >= min(waiting, len(idle)), "whoever waits finds the idle ones"
    if not retired:
        assert alive - len(decided.end) >= min(least, alive)
    assert str(waiting) in decided.reason
    devices, room, _ = limits
    if devices is not None:
        assert decided.start <= max(devices, 0 if alive else 1), "no instance whose lease cannot be granted"
    if room is not None:
        assert decided.start <= max(room, 1)
    if waiting and not alive and not retired:
        assert decided.start >= 1, "whoever waits gets an instance some day"


def test_a_queue_that_is_empty_sooner_than_a_start_starts_nothing() -> None:
    quick = PoolView(3, 0, 4, [], 20, 60, service_s=0.001, start_s=0.01)
    decided = scale(quick, now=100)
    assert decided.start == 0 and "sooner than a start" in decided.reason
    assert scale(replace(quick, service_s=0.1), now=100).start == 3, "they are slow"
    assert scale(replace(quick, oldest_wait_s=0.02), now=100).start == 3, "somebody has waited for too long already"
    burst = scale(replace(quick, waiting=9), now=100)
    assert burst.start == 9 and "burst" in burst.reason and burst.panic_until == 106


def test_after_a_burst_nothing_is_ended_for_a_while() -> None:
    view = PoolView(0, 0, 2, [("a", 0.0), ("b", 0.0)], 20, 5, panic_until=104)
    assert scale(view, now=103).end == ()
    assert scale(view, now=105).end == ("a", "b")
    assert scale(replace(view, idle_timeout=0.1, waiting=9), now=100).panic_until == pytest.approx(100.2)


def test_what_computes_gets_as_many_as_keep_the_processors_busy() -> None:
    view = PoolView(100, 0, 0, [], 100, 60, service_s=5.0, best_s=0.1, cpu_s=0.1, cores=2)
    decided = scale(view, now=0)
    assert decided.start == 3 and "3 keep 2 processors busy" in decided.reason
    assert scale(replace(view, cpu_s=0.002), now=0).start == 100, "it sleeps"
    assert scale(replace(view, cpu_s=0.05), now=0).start == 6, "half of the time it waits"
    assert scale(replace(view, oldest_wait_s=9.0), now=0).start == 3, "so long they compute"
    assert scale(replace(view, oldest_wait_s=11.0), now=0).start == 100, "something else holds them up"
    assert scale(replace(view, waiting=2, oldest_wait_s=1.1), now=0).start == 2


def test_what_limits_is_said() -> None:
    view = PoolView(9, 0, 0, [], 20, 60, devices_free=2)
    assert scale(view, now=0).start == 2 and "2 devices are free" in scale(view, now=0).reason
    assert scale(replace(view, devices_free=0), now=0).start == 1, "it stands in line"
    assert scale(replace(view, devices_free=0, alive=1), now=0).start == 0, "its own is free sooner"
    small = replace(view, devices_free=None, room=4)
    assert scale(small, now=0).start == 4 and "memory for 4 more" in scale(small, now=0).reason


def test_a_retired_pool_keeps_nothing() -> None:
    view = PoolView(0, 0, 1, [("a", 100.0)], max_instances=4, idle_timeout=60, retired=True)
    assert scale(view, now=100).end == ("a",)


def test_place() -> None:
    node = NodeView(memory_mib=1000, used_mib=600, starting=0, max_starting=2)
    idle = [IdleView("new", 300, 9.0), IdleView("old", 300, 1.0)]
    assert place(node, 400, []) == Start()
    assert place(node, 500, idle) == MakeRoom(("old",))
    assert place(node, 900, idle) == MakeRoom(("old", "new"))
    assert isinstance(place(node, 500, []), Later)
    assert isinstance(place(node, 1001, idle), Never)
    assert isinstance(place(NodeView(1000, 0, 2, 2), 1, []), Later)
