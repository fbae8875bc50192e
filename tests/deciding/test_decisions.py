"""Balancer, scheduler and autoscaler: small tables of situations and what is decided."""

from dataclasses import dataclass

import pytest

from kasoku.autoscaler.scale import PoolView, scale
from kasoku.balancer.pick import pick
from kasoku.scheduler.place import IdleView, Later, MakeRoom, Never, NodeView, Start, place


@dataclass
class Candidate:
    idle_since: float | None


def test_the_last_used_free_instance_is_picked() -> None:
    old, new = Candidate(1.0), Candidate(5.0)
    assert pick([old, Candidate(None), new]) is new
    assert pick([Candidate(None)]) is None


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
    assert str(waiting) in decided.reason


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
