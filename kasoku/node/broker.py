"""Brokers: the process that holds a device for one lease, and the list of devices."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kasoku.leases.model import Device, Lease
from kasoku.node.errors import PlatformError
from kasoku.node.native import Native, opencl_library_path
from kasoku.node.process import Child, PipeReader, Sink, Tail, close_all
from kasoku.node.sharing import SessionMemory

LIST_SECONDS = 60.0
READY_SECONDS = 60.0
SAVE_DEADLINE_MS = 1000
END_GRACE_SECONDS = 1.0
JOURNAL_MIB = 64
_MAX_READY = 64 * 1024
_MAGIC_BYTES = 8


def broker_environment() -> dict[str, str]:
    """What a broker may know of the agent's environment: where libraries are, no more."""
    path = ":".join(p for p in (opencl_library_path(), os.environ.get("LD_LIBRARY_PATH", "")) if p)
    return {"LD_LIBRARY_PATH": path, "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def _runtime_options() -> list[str]:
    return ["--runtime-dir", opencl_library_path()]


async def list_devices(native: Native) -> list[dict[str, object]]:
    """What `kasoku-broker list` finds, as it says it. Raises PlatformError."""
    process = await asyncio.create_subprocess_exec(
        str(native.broker),
        "list",
        *_runtime_options(),
        *native.device_options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=broker_environment(),
    )
    try:
        async with asyncio.timeout(LIST_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise PlatformError("ServiceException", f"kasoku-broker list did not end within {LIST_SECONDS:.0f} s") from None
    if process.returncode:
        told = err.decode(errors="backslashreplace").strip()[-1000:]
        raise PlatformError("ServiceException", f"kasoku-broker list failed with status {process.returncode}: {told}")
    try:
        found: list[dict[str, object]] = json.loads(out)
        return found
    except ValueError:
        raise PlatformError("ServiceException", "kasoku-broker list printed no JSON") from None


def as_device(listed: dict[str, object]) -> Device:
    """The part of a listed device that leases are about."""
    return Device(id=str(listed["id"]), api="opencl", kind=str(listed["kind"]), name=str(listed["name"]))


@dataclass(frozen=True, slots=True)
class SavedSession:
    """A session's objects in one file, sealed and authenticated. Whoever has it closes `file`."""

    file: int
    """Descriptor of a sealed memfd; its bytes may be stored anywhere."""
    manifest: dict[str, Any]
    """`identity` (kind of device and driver), `bytes`, `objects`, `version`, `save_ms`."""


class SessionRefusedError(Exception):
    """A saved session cannot go on here; the message says why."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What a broker shall serve; descriptors stay the caller's."""

    memory: SessionMemory
    output: Sink
    """Receives what kernels print."""
    console: Sink
    """Receives what the broker itself has to say."""
    saved: int | None = None
    """The file of a saved session that goes on, verified and sealed."""
    present: str | None = None
    """The kind of device that the guest is shown; None: the truth."""
    recover: bool = False
    """Whether the session outlives a crash of what serves it."""

    @property
    def descriptors(self) -> list[int]:
        """In the order in which a broker takes them."""
        return [*self.memory.descriptors, *([] if self.saved is None else [self.saved])]


def _to_nobody(_: bytes) -> None:
    """What a broker says while it stands by is kept for an error's message only."""


class Broker:
    """A running `kasoku-broker`. It ends when the agent closes its control socket, or with the agent."""

    def __init__(self, native: Native, argv: Sequence[str], passed: Sequence[int], leases: Path) -> None:
        """Start the process. Raises PlatformError."""
        ours, theirs = socket.socketpair()
        # A pipe of its own for what kernels print: the VM makes its own non-blocking, where text would be lost.
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        (output, output_write), (errors, error_write) = pipes
        command = [str(native.broker), *argv, "--control-fd", str(theirs.fileno()), "--lease-dir", str(leases)]
        command += [*_runtime_options(), *native.device_options]
        try:
            child = Child.spawn(
                command, [*passed, theirs.fileno()], broker_environment(), stdout=output_write, stderr=error_write
            )
        except OSError as error:
            ours.close()
            close_all([output, errors])
            raise PlatformError("ServiceException", f"kasoku-broker cannot be started: {error}") from None
        finally:
            theirs.close()
            close_all([output_write, error_write])
        ours.setblocking(False)
        self._child = child
        self._control = ours
        self._stderr = Tail(_to_nobody)
        self._output = Tail(_to_nobody)
        self._readers = [PipeReader(output, self._output), PipeReader(errors, self._stderr)]
        self._heard = b""
        self._lost = False
        self._asking = False
        """An answer is awaited: whoever else looks at the socket must leave it there."""
        self.filled = asyncio.Event()
        """The memory of a session that goes on is there: its guest may run, and its commands wait for the objects."""
        self.pid = child.pid
        self.exited = child.exited

    @classmethod
    async def start(cls, native: Native, lease: Lease, leases: Path, session: SessionPlan) -> "Broker":
        """Start a broker for a lease; when this returns, a guest may open the session, and will wait for `ready`.

        Raises PlatformError.
        """
        argv = ["serve", "--device", lease.device.id, "--epoch", str(lease.epoch)]
        for option, descriptor in zip(("memory", "doorbell", "wake"), session.memory.descriptors, strict=True):
            argv += [f"--{option}-fd", str(descriptor)]
        if session.present is not None:
            argv += ["--present", session.present]
        if session.recover:
            argv += ["--recover", str(JOURNAL_MIB)]
        if session.saved is not None:
            argv += ["--verified-session-fd", str(session.saved)]
        broker = cls(native, argv, session.descriptors, leases)
        broker._belong_to(session)
        try:
            await broker._header(session)
        except BaseException:  # nobody else knows it yet
            await broker.stop()
            raise
        return broker

    @classmethod
    async def standby(cls, native: Native, device: Device, leases: Path) -> "Broker":
        """Start one that opens the device without holding it, and wait until it has. Raises PlatformError."""
        broker = cls(native, ["standby", "--device", device.id], [], leases)
        try:
            told, _ = await broker._answer(READY_SECONDS)
            if told.get("standby") is not True:
                reason = told.get("message") or broker._stderr.text() or "it said nothing"
                raise PlatformError("ServiceException", f"no broker can wait for {device.full_id}: {reason}")
        except BaseException as error:
            await broker.stop()
            if isinstance(error, TimeoutError):
                message = f"a broker did not open {device.full_id} in time"
                raise PlatformError("ServiceException", message) from None
            raise
        return broker

    async def take(self, lease: Lease, session: SessionPlan) -> None:
        """Make one that stands by the lease's broker, as `start` does. Raises PlatformError when it has ended."""
        recover = JOURNAL_MIB if session.recover else 0
        request = {"serve": {"epoch": lease.epoch, "present": session.present, "recover": recover}}
        try:
            # A line that fits into an empty socket's buffer: it goes as a whole.
            socket.send_fds(self._control, [json.dumps(request).encode() + b"\n"], session.descriptors)
        except OSError as error:
            raise PlatformError("ServiceException", f"the broker that stood by is gone: {error}") from None
        self._belong_to(session)
        await self._header(session)

    def _belong_to(self, session: SessionPlan) -> None:
        self._output.onward, self._stderr.onward = session.output, session.console

    async def _header(self, session: SessionPlan) -> None:
        """Its first act is to write the header of the session. Without one, a guest would think the session broken.
        A guest whose session goes on runs only when it is ready, for then its memory is there."""
        if session.saved is None:
            while not self.exited.done() and os.pread(session.memory.memory, _MAGIC_BYTES, 0) == bytes(_MAGIC_BYTES):
                await asyncio.sleep(0.001)

    def drain(self) -> None:
        """Hand over what kernels have printed so far."""
        for reader in self._readers:
            reader.drain()

    @property
    def alive(self) -> int:
        """A descriptor that hangs up when the broker dies; the VM watches it on behalf of its guest."""
        return self._control.fileno()

    @property
    def lost(self) -> bool:
        """Whether the device is gone. Asked after each invocation; one system call.

        The broker says so before it tells the guest, so that no answer in which the guest complains overtakes it.
        """
        if self._asking:
            return self._lost
        try:
            told = self._control.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._lost
        except OSError:
            return True
        self._hear(told)
        return self._lost

    async def ready(self, device: Device) -> None:
        """Wait until the device is open. Raises PlatformError with the broker's own words when it cannot serve, and
        SessionRefusedError when it cannot serve the session that it was given."""
        try:
            told, _ = await self._answer(READY_SECONDS)
            if told.get("filled") is True:
                self.filled.set()
                told, _ = await self._answer(READY_SECONDS)
        except TimeoutError:
            raise PlatformError("ServiceException", f"the broker of {device.full_id} was not ready in time") from None
        if told.get("ready") is not True:
            reason = told.get("message")
            if told.get("error") == "session":
                raise SessionRefusedError(str(reason))
            # Held by a process that is not ours, such as `kasoku exec`: trying again later may help.
            code = "TooManyRequestsException" if told.get("error") == "held" else "ServiceException"
            raise PlatformError(
                code,
                f"the broker of {device.full_id} failed to start: {reason or self._stderr.text() or 'it said nothing'}",
            )

    async def save(self, deadline_ms: int = SAVE_DEADLINE_MS, *, memory: bool = True) -> SavedSession:
        """Write the session, which goes on, to a file; with `memory` it can go on with other session memory too.

        Raises PlatformError where its commands do not come to rest within `deadline_ms`.
        """
        told, file = await self._ask({"save": {"deadline_ms": deadline_ms, "memory": memory}}, "saved", deadline_ms)
        if file is None:
            raise PlatformError("ServiceException", "the broker saved its session and handed no file over")
        return SavedSession(file, told)

    async def suspend(self, deadline_ms: int = SAVE_DEADLINE_MS) -> dict[str, Any]:
        """Give the device up. The session waits in the broker, and its guest's next command waits for `resume`.

        Returns what `SavedSession.manifest` says. Raises PlatformError where its commands do not come to rest within
        `deadline_ms`; then nothing has changed.
        """
        told, _ = await self._ask({"suspend": {"deadline_ms": deadline_ms}}, "suspended", deadline_ms)
        return told

    async def resume(self, lease: Lease) -> dict[str, Any]:
        """Let a suspended session go on, on the lease's device, of the kind that it had. Raises PlatformError."""
        request: dict[str, object] = {"resume": {"device": lease.device.id, "epoch": lease.epoch}}
        told, _ = await self._ask(request, "ready", READY_SECONDS * 1000)
        return told

    async def _ask(
        self, request: dict[str, object], wanted: str, patience_ms: float
    ) -> tuple[dict[str, Any], int | None]:
        loop = asyncio.get_running_loop()
        self._asking = True
        try:
            await loop.sock_sendall(self._control, json.dumps(request).encode() + b"\n")
            told, file = await self._answer(patience_ms / 1000 + READY_SECONDS)
        except TimeoutError:
            raise PlatformError("ServiceException", f"the broker did not answer {request}") from None
        except OSError as error:
            raise PlatformError("ServiceException", f"the broker is gone: {error}") from None
        finally:
            self._asking = False
        if told.get(wanted) is not True:
            if file is not None:
                os.close(file)
            reason = told.get("message") or self._stderr.text() or "it said nothing"
            code = "TooManyRequestsException" if told.get("error") == "held" else "ServiceException"
            raise PlatformError(code, f"the broker refused {next(iter(request))}: {reason}")
        return told, file

    async def _answer(self, seconds: float) -> tuple[dict[str, Any], int | None]:
        """The next line, and the descriptor that came with it. Raises TimeoutError. Nothing: it is gone."""
        loop = asyncio.get_running_loop()
        file: int | None = None
        async with asyncio.timeout(seconds):
            while b"\n" not in self._heard and not self._lost and len(self._heard) < _MAX_READY:
                try:
                    data, files, _, _ = socket.recv_fds(self._control, 4096, 1)
                except BlockingIOError:
                    arrived = asyncio.Event()
                    loop.add_reader(self._control, arrived.set)
                    try:
                        await arrived.wait()
                    finally:
                        loop.remove_reader(self._control)
                    continue
                except ConnectionError:
                    data, files = b"", []
                file = files[0] if files else file
                self._hear(data)
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            told = json.loads(line)
        except ValueError:
            told = {}
        return (told if isinstance(told, dict) else {}), file

    def _hear(self, data: bytes) -> None:
        lines = (self._heard + data).split(b"\n")
        # What the broker tells by itself, while nobody waits for an answer: a successor serves the session.
        self._heard = b"\n".join([line for line in lines[:-1] if b'"recovered"' not in line] + lines[-1:])
        self._lost = self._lost or not data or b'"lost"' in self._heard

    async def stop(self) -> int:
        """End it and wait until it is gone: only then is the device free. 0: in good order, its processes with it."""
        # The VM may hold a duplicate of this end: only `shutdown` ends the connection for sure.
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        code = await self._child.end(END_GRACE_SECONDS)
        for reader in self._readers:
            reader.close()
        return code
