"""Runs what is due: claims calls, has them invoked, and keeps what came of it. Knows neither VMs nor HTTP."""

import asyncio
import contextlib
import json
import logging
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from kasoku.queue.model import Attempt, Call, CallState, Finish, Policy, Retry, judge, record
from kasoku.queue.store import QueueStore
from kasoku.queue.writer import GroupWriter, StoreFailed
from kasoku.tenants.model import local, owner, qualify

_log = logging.getLogger(__name__)
SHARE = 4
"""One function may have a quarter of the places: one that is slow must not hold up the others."""
PURGE_SECONDS = 60.0
STORE_RETRY_SECONDS = 1.0
Invoke = Callable[[Call], Awaitable[Attempt]]


class Dispatcher:
    """See the module. `invoke` runs one call and never raises but for cancellation."""

    def __init__(
        self,
        writer: GroupWriter,
        invoke: Invoke,
        arn: Callable[[str, str], str],
        *,
        max_running: int,
        keep_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.now = clock
        """Seconds since 1970 on the clock that calls are due by."""
        self._writer = writer
        self._invoke = invoke
        self._arn = arn
        self._max_running = max_running
        self._share = max(1, max_running // SHARE)
        self._keep_s = keep_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._each: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)
        self._loop_task = asyncio.create_task(self._run())

    async def accept(
        self,
        target: str,
        qualifier: str,
        payload: bytes,
        policy: Policy,
        *,
        id: str | None = None,
        client_context: str | None = None,
        idempotency_key: str | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """Keep a call and return its id (an earlier one's, for a key that was used before). It is on disk then.

        Raises StoreFailed: then nothing was accepted.
        """
        call = new_call(
            target,
            qualifier,
            payload,
            policy,
            self.now(),
            id=id,
            client_context=client_context,
            idempotency_key=idempotency_key,
            delay_s=delay_s,
        )
        accepted = await self._writer.keep(call)
        if delay_s <= PURGE_SECONDS:  # else it is found in time without being looked for now
            self._wake.set()
        return accepted

    async def get(self, id: str, wait_s: float = 0.0) -> Call | None:
        """A call, after at most `wait_s` seconds of waiting for its end."""
        call = await self._writer.do(QueueStore.get, id)
        if call is None or call.state.final or wait_s <= 0:
            return call
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[id].append(future)
        try:
            # It may have ended between the first look and now.
            call = await self._writer.do(QueueStore.get, id)
            if call is not None and not call.state.final:
                await asyncio.wait([future], timeout=wait_s)
                call = await self._writer.do(QueueStore.get, id)
        finally:
            self._waiting[id].remove(future)
            if not self._waiting[id]:
                del self._waiting[id]
        return call

    async def cancel(self, id: str) -> bool:
        """End a call that has not ended: one that waits never runs, one that runs loses its instance."""
        now = self.now()
        error = json.dumps({"errorType": "Cancelled", "errorMessage": "the call was cancelled"})
        done = await self._writer.do(QueueStore.finish, id, CallState.CANCELLED, now, None, error, ())
        if done:
            self._tell(id)
            if task := self._running.get(id):
                task.cancel()
        return done

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def drain(self, deadline: float) -> None:
        """Start nothing more, and let what runs finish until a moment of the monotonic clock."""
        self._loop_task.cancel()
        while self._running and time.monotonic() < deadline:
            await asyncio.wait(self._running.values(), timeout=deadline - time.monotonic())

    async def close(self) -> None:
        """Stop. What runs is queued again at the next start."""
        tasks = [self._loop_task, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        purged = 0.0
        while True:
            self._wake.clear()
            try:
                now = self.now()
                if now - purged > PURGE_SECONDS or now < purged:
                    purged = now
                    await self._writer.do(QueueStore.forget, now - self._keep_s)
                await self._claim(now)
                due_at = await self._writer.do(QueueStore.next_due, self._full())
            except StoreFailed as error:
                _log.error("%s", error)
                due_at = self.now() + STORE_RETRY_SECONDS
            # With no room, the end of a call that runs wakes this up.
            room = len(self._running) < self._max_running
            pause = min(PURGE_SECONDS, due_at - self.now()) if room and due_at is not None else PURGE_SECONDS
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    async def _claim(self, now: float) -> None:
        while (room := self._max_running - len(self._running)) > 0:
            limit = min(room, self._share)
            calls = await self._writer.do(QueueStore.claim, now, limit, self._full())
            for call in calls:
                self._each[call.target] += 1
                self._running[call.id] = asyncio.create_task(self._try(call))
            if len(calls) < limit:
                return

    def _full(self) -> list[str]:
        """Targets that have their share. A claim may exceed it by one batch."""
        return [target for target, count in self._each.items() if count >= self._share]

    async def _try(self, call: Call) -> None:
        try:
            attempt = await self._attempt(call)
            await self._keep(call, attempt)
        finally:
            self._running.pop(call.id, None)
            self._each[call.target] -= 1
            if not self._each[call.target]:
                del self._each[call.target]
            self._wake.set()

    async def _attempt(self, call: Call) -> Attempt:
        if self.now() >= call.expires_at:
            trouble = {"errorType": "EventAgeExceeded", "errorMessage": "the call was not run before its maximum age"}
            return Attempt(trouble=trouble, hopeless=True)
        return await self._invoke(call)

    async def _keep(self, call: Call, attempt: Attempt) -> None:
        """Until the disk has taken it: a call whose end was not kept would be run again for nothing."""
        while True:
            now = self.now()
            verdict = judge(call, attempt, now, random.random())
            error = attempt.failure or attempt.trouble
            text = None if error is None else json.dumps(error)
            try:
                match verdict:
                    case Retry(due_at):
                        counts = attempt.failure is not None
                        await self._writer.do(QueueStore.retry, call.id, due_at, text or "", count=counts)
                    case Finish(state, condition):
                        follow = self._follow(call, attempt, state, condition, now)
                        await self._writer.do(QueueStore.finish, call.id, state, now, attempt.result, text, follow)
                        self._tell(call.id)
                return
            except StoreFailed as failed:
                _log.error("the end of call %s: %s", call.id, failed, extra={"requestId": call.id})
                await asyncio.sleep(STORE_RETRY_SECONDS)

    def _follow(self, call: Call, attempt: Attempt, state: CallState, condition: str, now: float) -> list[Call]:
        """The call to the destination, if there is one. It has none itself: a circle would never end."""
        destination = call.on_success if state is CallState.DONE else call.on_failure
        if destination is None:
            return []
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = record(call, attempt, condition, self._arn(call.target, call.qualifier), at)
        target, qualifier = split_destination(destination)
        if "://" not in target:
            # A function says the name as its tenant does.
            target = qualify(owner(call.target), local(target))
        return [new_call(target, qualifier, told, Policy(), now)]

    def _tell(self, id: str) -> None:
        for future in self._waiting.get(id, ()):
            if not future.done():
                future.set_result(None)


def split_destination(destination: str) -> tuple[str, str]:
    """Target and qualifier of a URL, a function's name, or an ARN."""
    if destination.startswith(("http://", "https://")):
        return destination, "$LATEST"
    tail = destination.rpartition("function:")[2] if "function:" in destination else destination
    name, _, qualifier = tail.partition(":")
    return name, qualifier or "$LATEST"


def new_call(
    target: str,
    qualifier: str,
    payload: bytes,
    policy: Policy,
    now: float,
    *,
    id: str | None = None,
    client_context: str | None = None,
    idempotency_key: str | None = None,
    delay_s: float = 0.0,
) -> Call:
    """A call that waits. Its age counts from when it is due."""
    due_at = now + delay_s
    return Call(
        id=id or str(uuid.uuid4()),
        target=target,
        qualifier=qualifier,
        payload=payload,
        client_context=client_context,
        state=CallState.QUEUED,
        attempts=0,
        max_attempts=policy.max_attempts,
        accepted_at=now,
        due_at=due_at,
        expires_at=due_at + policy.max_age_s,
        idempotency_key=idempotency_key,
        on_success=policy.on_success,
        on_failure=policy.on_failure,
    )
