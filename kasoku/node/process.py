"""Child processes and their output, watched by the event loop (pidfd and pipes; no threads, no signal handler)."""

import asyncio
import contextlib
import fcntl
import os
import signal
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

Sink = Callable[[bytes], None]
_NO_BYTES = bytes(4)


class Child:
    """A process that ends with its owner. `exited` becomes its return code (negative: the signal that killed it)."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(pid)
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    def spawn(
        cls, argv: Sequence[str], pass_fds: Sequence[int], env: Mapping[str, str], stdout: int, stderr: int
    ) -> Self:
        """Start a process in a group of its own: a terminal's Ctrl-C is for the agent, which ends its children.

        `posix_spawn` and not `subprocess`: this lies on the way of every start, and takes a third of the time.
        """
        streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        copies = [
            (os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((stdout, 1), (stderr, 2), *((fd, fd) for fd in pass_fds))
        ]
        ignored_by_python = [signal.SIGPIPE, signal.SIGXFSZ]
        pid = os.posix_spawn(
            argv[0], list(argv), env, file_actions=[*streams, *copies], setpgroup=0, setsigdef=ignored_by_python
        )
        return cls(pid)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if not self.exited.done():
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def end(self, grace: float) -> int:
        """Wait `grace` seconds for it to exit by itself, then kill it; it is reaped when this returns."""
        done, _ = await asyncio.wait([self.exited], timeout=grace)
        if not done:
            self.kill()
        return await asyncio.shield(self.exited)

    def _on_exit(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.exited.set_result(os.waitstatus_to_exitcode(status))


def processor_time_s(pid: int) -> float | None:
    """Processor time of a process and all of its threads; None: it is gone."""
    try:
        # The clock of a process, as clock_getcpuclockid(3) makes its number.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def resident_mib(pid: int) -> tuple[float, float] | None:
    """MiB of a process that are its own, and that are a file's and so everybody's; None where that cannot be seen.

    Not what /proc calls private: pages of a snapshot's memory file count there as long as one process maps them.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or is not ours to look at
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    own = kib.get("Anonymous", 0)
    return round(own / 1024, 1), round((kib.get("Rss", own) - own) / 1024, 1)


class PipeReader:
    """Reads the receiving end of a pipe and hands what arrives to `sink`; owns the descriptor."""

    def __init__(self, descriptor: int, sink: Sink) -> None:
        self._descriptor: int | None = descriptor
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._on_readable)

    def drain(self) -> None:
        """Hand over what has been written so far."""
        # Asked first: a read of an empty pipe raises, which costs ten times as much, and most are empty.
        while self._descriptor is not None and self._is_filled() and self._read():
            pass

    def _is_filled(self) -> bool:
        assert self._descriptor is not None
        return fcntl.ioctl(self._descriptor, termios.FIONREAD, _NO_BYTES) != _NO_BYTES

    def close(self) -> None:
        """Hand over what is there, then close."""
        while self._descriptor is not None and self._read():
            pass
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        assert self._descriptor is not None
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
            return False
        self._sink(data)
        return True


class Tail:
    """A sink that keeps the last bytes, for error messages, and hands everything on."""

    def __init__(self, onward: Sink, limit: int = 8192) -> None:
        self._data = bytearray()
        self._limit = limit
        self.onward = onward

    def __call__(self, data: bytes) -> None:
        self._data += data
        del self._data[: -self._limit]
        self.onward(data)

    def text(self) -> str:
        """What is kept, with bytes that are no UTF-8 shown as escapes."""
        return self._data.decode(errors="backslashreplace").strip()


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors; those that are closed already do not matter."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
