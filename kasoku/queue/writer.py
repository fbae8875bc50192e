"""Group commit: one thread owns the queue's file and puts everything that came in meanwhile into one transaction.

A commit costs a sync of the disk, whatever is in it: the more is asked for at a time, the less each costs. Nobody is
told that something was done before the sync that made it last.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from kasoku.queue.model import Call
from kasoku.queue.store import QueueStore

P = ParamSpec("P")
T = TypeVar("T")
Work = tuple[Callable[[QueueStore], Any] | Call, "asyncio.Future[Any]"]
"""What to do, or a call to keep."""
MAX_BATCH = 512


class StoreFailed(Exception):
    """The disk does not take it (full, broken). Nothing of what was asked for has happened."""


class GroupWriter:
    """Runs functions of the store on its thread. One event loop."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Work] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[Concatenate[QueueStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the store in the next transaction; returns once it is on disk. Raises StoreFailed."""
        future: asyncio.Future[T] = self._loop.create_future()
        return await self._put(lambda store: work(store, *args, **kwargs), future)

    async def keep(self, call: Call) -> str:
        """`QueueStore.accept` of a call, together with others that come in. Raises StoreFailed."""
        if call.idempotency_key is not None:
            return await self.do(QueueStore.accept, call)
        future: asyncio.Future[str] = self._loop.create_future()
        return await self._put(call, future)

    async def _put(self, work: Callable[[QueueStore], T] | Call, future: "asyncio.Future[T]") -> T:
        # A caller who goes away cancels its future alone: the transaction goes on for the others.
        self._pending.append((work, future))
        if not self._wake.is_set():
            self._wake.set()
        return await future

    async def close(self) -> None:
        """Finish what is pending, then close the file."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._store.close()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                results = self._commit(batch)
                self._loop.call_soon_threadsafe(_resolve, results)
            if self._closing:
                return

    def _take(self) -> list[Work]:
        return [self._pending.popleft() for _ in range(min(len(self._pending), MAX_BATCH))]

    def _commit(self, batch: list[Work]) -> list[tuple["asyncio.Future[Any]", Any, Exception | None]]:
        try:
            with self._store.db.transaction():
                return self._do_all(batch)
        except sqlite3.Error as error:
            return [(future, None, StoreFailed(f"the queue cannot be written: {error}")) for _, future in batch]
        except Exception as error:  # whatever it is, those who wait must hear of it, and the thread must go on
            return [(future, None, error) for _, future in batch]

    def _do_all(self, batch: list[Work]) -> list[tuple["asyncio.Future[Any]", Any, Exception | None]]:
        done: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
        calls: list[tuple[Call, asyncio.Future[Any]]] = []
        for work, future in batch:
            if isinstance(work, Call):
                calls.append((work, future))
            else:
                done.append((future, work(self._store), None))
        for id, (_, future) in zip(self._store.insert([call for call, _ in calls]), calls, strict=True):
            done.append((future, id, None))
        return done


def _resolve(results: list[tuple["asyncio.Future[Any]", Any, Exception | None]]) -> None:
    for future, value, error in results:
        if future.done():
            continue
        if error:
            future.set_exception(error)
        else:
            future.set_result(value)
