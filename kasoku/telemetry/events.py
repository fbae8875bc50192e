"""The last decisions and what came of them, numbered, for `kasoku events`."""

import asyncio
import time
from collections import deque
from typing import Any

from kasoku.telemetry.log import EVENTS

KEPT = 2000


class Events:
    """A ring. One event loop."""

    def __init__(self) -> None:
        self._ring: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._number = 0
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, kind: str, text: str, **detail: Any) -> None:
        """Something was decided or happened; `text` explains it in one line."""
        self._number += 1
        self._ring.append({"number": self._number, "at": time.time(), "kind": kind, "text": text, **detail})
        EVENTS.info("%s", text, extra={"event": kind, **detail})
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def after(self, number: int, wait_s: float) -> list[dict[str, Any]]:
        """Those after a number, as soon as there are any, or none after `wait_s` seconds."""
        if self._number <= number and wait_s > 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await asyncio.wait([future], timeout=wait_s)
            finally:
                self._waiting.remove(future)
        return [event for event in self._ring if event["number"] > number]
