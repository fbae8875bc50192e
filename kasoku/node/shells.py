"""Blank monitors: processes of `kasoku-vmm` that have their virtual machine and wait for what it shall be.

Starting a process, opening KVM and creating a virtual machine take longer than all else of a restore, and are the same
for every function. So a few are kept at hand; one is used once, whatever becomes of it.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from dataclasses import dataclass

from kasoku.node.errors import PlatformError
from kasoku.node.native import Native
from kasoku.node.process import Child, close_all

GUEST_ENV = {"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}
PAUSE_SECONDS = 0.002
"""Before a shell is replaced: whoever took one goes first."""


@dataclass(slots=True)
class Shell:
    """A monitor without a guest."""

    child: Child
    control: socket.socket
    errors: int
    """Reading end of the pipe that its own words go to."""

    def close(self) -> None:
        """It is not wanted: it ends when its socket closes."""
        self.control.close()
        close_all([self.errors])


def spawn(native: Native) -> Shell:
    """Start one. Raises PlatformError."""
    ours, theirs = socket.socketpair()
    errors, error_write = os.pipe2(os.O_CLOEXEC)
    try:
        child = Child.spawn(
            [str(native.vmm), "--control-fd", str(theirs.fileno()), *native.options],
            [theirs.fileno()],
            GUEST_ENV,
            error_write,
            error_write,
        )
    except OSError as error:
        ours.close()
        close_all([errors])
        raise PlatformError("ServiceException", f"kasoku-vmm cannot be started: {error}") from None
    finally:
        theirs.close()
        close_all([error_write])
    return Shell(child, ours, errors)


class Shells:
    """Keeps `size` of them at hand on one event loop."""

    def __init__(self, native: Native, size: int) -> None:
        self._native = native
        self._size = size
        self._blank: deque[Shell] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    def take(self) -> Shell:
        """One that lives, from those at hand or new. Raises PlatformError."""
        self.fill()
        while self._blank:
            shell = self._blank.popleft()
            if not shell.child.exited.done():
                return shell
            shell.close()
        return spawn(self._native)

    def fill(self) -> None:
        """See to it that there are enough, soon."""
        if not self._closed and self._size and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        while len(self._blank) < self._size:
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                self._blank.append(spawn(self._native))
            except PlatformError:
                return  # whoever needs one is told

    async def close(self) -> None:
        """End those that were not used."""
        self._closed = True
        if self._filling:
            self._filling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._filling
        shells = list(self._blank)
        self._blank.clear()
        for shell in shells:
            shell.close()
        await asyncio.gather(*(shell.child.end(2.0) for shell in shells))
