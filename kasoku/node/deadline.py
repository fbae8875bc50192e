"""A timeout that costs next to nothing to set and to clear, for what is done thousands of times a second.

A timer of the event loop is armed and cancelled for 15 us each time. Here one timer serves many uses: it is left to
run, and looks, when it fires, whether anything is overdue. Timeouts of one owner are equal, so it is never late itself.
"""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `on_late` when a time that was set has passed and was not cleared."""

    def __init__(self, on_late: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_late = on_late
        self._due: float | None = None
        self._left: float | None = None
        """Seconds that were left when the clock was stopped."""
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Be late in so many seconds."""
        self._due, self._left = self._loop.time() + seconds, None
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._look)

    def hold(self) -> None:
        """Stop the clock of what is due, until `go_on`: what cannot run must not be late for it."""
        if self._due is not None:
            self._left, self._due = self._due - self._loop.time(), None

    def go_on(self) -> None:
        """Let the clock run again."""
        if self._left is not None:
            self.set(self._left)

    def clear(self) -> None:
        """Nothing is due."""
        self._due = self._left = None

    def close(self) -> None:
        """Nothing will be due any more."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        left = self._due - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self._due = None
        self._on_late()
