"""Cron schedules with time zones: when, and the loop that turns times into calls."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from kasoku.queue.dispatcher import Dispatcher, new_call
from kasoku.queue.model import Policy
from kasoku.queue.store import QueueStore
from kasoku.queue.writer import GroupWriter, StoreFailed

_log = logging.getLogger(__name__)
_RATE = re.compile(r"rate\((?P<count>[1-9]\d{0,5}) (?P<unit>second|minute|hour|day)s?\)")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
IDLE_SECONDS = 30.0
"""Looked at the clock at least so often: it may have been set."""


class ScheduleError(Exception):
    """An expression or a time zone that makes no sense; the message says what does."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`expression` is cron's five fields, or `rate(5 minutes)`."""

    name: str
    target: str
    qualifier: str
    expression: str
    timezone: str
    payload: bytes
    next_at: float | None


def next_time(expression: str, timezone: str, after: float) -> float | None:
    """The first time of an expression after a moment, in seconds since 1970. Raises ScheduleError."""
    if match := _RATE.fullmatch(expression.strip()):
        return after + int(match["count"]) * _SECONDS[match["unit"]]
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"{timezone!r} is no time zone such as Europe/Berlin") from None
    try:
        # Cron's times have no seconds; CronSim goes on from the minute that the moment lies in.
        found = next(CronSim(expression, datetime.fromtimestamp(after, zone)), None)
    except CronSimError as error:
        raise ScheduleError(
            f"{expression!r} is neither five fields of cron nor like 'rate(5 minutes)': {error}"
        ) from None
    if found is None or found - datetime.fromtimestamp(after, zone) > timedelta(days=366 * 50):
        return None
    return found.timestamp()


class Scheduler:
    """Fires schedules. One that was missed (the server was off) fires once when it is back."""

    def __init__(self, writer: GroupWriter, dispatcher: Dispatcher, policy: Callable[[str, str], Policy]) -> None:
        self._writer = writer
        self._dispatcher = dispatcher
        self._policy = policy
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def put(
        self, name: str, target: str, qualifier: str, expression: str, timezone: str, payload: bytes
    ) -> Schedule:
        """Make a schedule or replace it. Raises ScheduleError, StoreFailed."""
        next_at = next_time(expression, timezone, time.time())
        schedule = Schedule(name, target, qualifier, expression, timezone, payload, next_at)
        await self._writer.do(QueueStore.put_schedule, astuple(schedule))
        self._changed.set()
        return schedule

    async def remove(self, name: str) -> bool:
        """Forget a schedule; False if there is none."""
        return await self._writer.do(QueueStore.remove_schedule, name)

    async def listed(self) -> list[Schedule]:
        """All schedules by name."""
        return [Schedule(*row) for row in await self._writer.do(QueueStore.schedules)]

    async def close(self) -> None:
        """Stop firing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                pause = await self._fire_due()
            except StoreFailed as error:
                _log.error("schedules: %s", error)
                pause = 1.0
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _fire_due(self) -> float:
        """Fire what is due; seconds until the next is."""
        now, pause = time.time(), IDLE_SECONDS
        for schedule in await self.listed():
            due = schedule.next_at
            if due is None:
                continue
            if due > now:
                pause = min(pause, due - now)
                continue
            following = next_time(schedule.expression, schedule.timezone, now)
            policy = self._policy(schedule.target, schedule.qualifier)
            call = new_call(schedule.target, schedule.qualifier, schedule.payload, policy, self._dispatcher.now())
            await self._writer.do(QueueStore.fire, schedule.name, due, following, call)
            self._dispatcher.wake()
            if following is not None:
                pause = min(pause, max(0.0, following - time.time()))
        return pause
