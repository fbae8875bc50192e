"""The queue's pure rules, its schedules, and what a disk that takes nothing does."""

import asyncio
import sqlite3
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasoku.queue.delivery import deliver
from kasoku.queue.dispatcher import new_call, split_destination
from kasoku.queue.model import MAX_DELAY_SECONDS, Attempt, Call, CallState, Finish, Policy, Retry, delay_s, judge
from kasoku.queue.schedule import ScheduleError, next_time
from kasoku.queue.steady import SteadyClock
from kasoku.queue.store import QueueStore
from kasoku.queue.writer import GroupWriter, StoreFailed

NOW = 1_800_000_000.0
FAILURE = {"errorType": "E", "errorMessage": "m"}


def call(attempts: int, policy: Policy = Policy()) -> Call:
    return replace(new_call("f", "$LATEST", b"{}", policy, NOW), attempts=attempts)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_delays_grow_and_end(attempts: int, chance: float) -> None:
    assert 0.5 <= delay_s(attempts, chance) <= MAX_DELAY_SECONDS
    assert delay_s(attempts, chance) <= delay_s(attempts + 1, 0.0) * 2


def test_what_becomes_of_a_call() -> None:
    assert judge(call(1), Attempt(result=b"1"), NOW, 0) == Finish(CallState.DONE, "Success")
    assert judge(call(1), Attempt(failure=FAILURE), NOW, 0) == Retry(NOW + 0.5)
    assert judge(call(3), Attempt(failure=FAILURE), NOW, 0) == Finish(CallState.FAILED, "RetriesExhausted")
    assert isinstance(judge(call(30), Attempt(trouble=FAILURE), NOW, 0), Retry), "the platform's trouble counts not"
    hopeless = Attempt(trouble=FAILURE, hopeless=True)
    assert judge(call(1), hopeless, NOW, 0) == Finish(CallState.FAILED, "RetriesExhausted")
    old = call(1, Policy(max_age_s=60))
    assert judge(old, Attempt(trouble=FAILURE), NOW + 60, 0) == Finish(CallState.FAILED, "EventAgeExceeded")


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("f", ("f", "$LATEST")),
        ("f:live", ("f", "live")),
        ("arn:aws:lambda:local:000000000000:function:f", ("f", "$LATEST")),
        ("arn:aws:lambda:local:000000000000:function:f:3", ("f", "3")),
        ("https://host/x:y", ("https://host/x:y", "$LATEST")),
    ],
)
def test_destinations(destination: str, expected: tuple[str, str]) -> None:
    assert split_destination(destination) == expected


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://[::ffff:169.254.1.1]/", "http:///x", "ftp://h/"]
)
def test_destinations_that_nobody_may_have(url: str) -> None:
    attempt = deliver(url, b"{}", "id")
    assert attempt.trouble and attempt.hopeless


def test_schedules_follow_a_zone_s_clock_changes() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    def following(expression: str, *moment: int) -> str:
        at = next_time(expression, "Europe/Berlin", datetime(*moment, tzinfo=berlin).timestamp())  # type: ignore[misc,arg-type]
        assert at
        return datetime.fromtimestamp(at, berlin).isoformat()

    assert following("0 9 * * *", 2027, 3, 27, 12) == "2027-03-28T09:00:00+02:00", "clocks go forward that night"
    assert following("0 9 * * *", 2027, 10, 30, 12) == "2027-10-31T09:00:00+01:00"
    assert next_time("rate(5 minutes)", "UTC", NOW) == NOW + 300
    for expression, zone in (("x", "UTC"), ("* * * *", "UTC"), ("* * * * *", "../etc/passwd"), ("rate(0 days)", "UTC")):
        with pytest.raises(ScheduleError):
            next_time(expression, zone, NOW)


def test_a_disk_that_takes_nothing_acknowledges_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = QueueStore(tmp_path / "queue.db")
        writer = GroupWriter(store)
        first = new_call("f", "$LATEST", b"{}", Policy(), NOW)
        assert await writer.do(QueueStore.accept, first) == first.id
        # As a full disk: not one page more.
        (pages,) = store.db.execute("PRAGMA page_count").fetchone()
        store.db.execute(f"PRAGMA max_page_count = {pages}")
        large = new_call("f", "$LATEST", bytes(1 << 20), Policy(), NOW)
        with pytest.raises(StoreFailed, match="full"):
            await writer.do(QueueStore.accept, large)
        store.db.execute("PRAGMA max_page_count = 1000000")
        assert await writer.do(QueueStore.get, large.id) is None
        assert await writer.do(QueueStore.accept, large) == large.id, "it goes on when there is room again"
        await writer.close()

    asyncio.run(scenario())
    with sqlite3.connect(tmp_path / "queue.db") as db:
        assert db.execute("SELECT count(*) FROM calls").fetchone() == (2,)


def test_a_clock_that_was_set_back_holds_up_nothing(tmp_path: Path) -> None:
    store = QueueStore(tmp_path / "queue.db")
    early = new_call("f", "$LATEST", b"{}", Policy(max_age_s=60), NOW - 10, id="early")
    late = new_call("f", "$LATEST", b"{}", Policy(max_age_s=60), NOW + 3600, id="late", delay_s=5)
    for one in (early, late):
        store.accept(one)
    store.recover(NOW)
    assert store.get("early") == early
    assert store.get("late") == replace(late, accepted_at=NOW, due_at=NOW + 5, expires_at=NOW + 65)
    store.close()


def test_the_queue_s_clock_is_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock()
    before, wall = clock(), time.time()
    assert abs(before - wall) < 1
    monkeypatch.setattr(time, "time", lambda: wall + 3600)
    assert before <= clock() < before + 60
