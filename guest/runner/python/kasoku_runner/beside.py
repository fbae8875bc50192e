"""Several events at a time: each has a thread of its own, and coroutines of all of them share one event loop."""

import asyncio
import contextlib
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Beside:
    """See the module. The agent sends no more events at a time than the function asked for."""

    def __init__(self, concurrency: int) -> None:
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="event")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = threading.Lock()
        # There before the first event: those that began before a function loads it would record as one.
        with contextlib.suppress(ImportError):
            importlib.import_module("kasoku.sdk.phases")

    def begin(self, serve: Callable[..., int | None], *arguments: Any) -> None:
        """Serve an event, soon; what it says is the status that the program exits with ends the program."""
        self._threads.submit(_finish, serve, arguments)

    def wait_for(self, awaitable: Any) -> Any:
        """The result of a coroutine, which runs beside those of the other events."""

        async def finish() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(finish(), self._running_loop()).result()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._making:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="coroutines", daemon=True).start()
            return self._loop


def _finish(serve: Callable[..., int | None], arguments: tuple[Any, ...]) -> None:
    status: int | None = 1  # of an error that is the runner's own: an event without an answer must not hang
    try:
        if phases := sys.modules.get("kasoku.sdk.phases"):
            phases.apart()
        status = serve(*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        if status is not None:
            os._exit(status)
