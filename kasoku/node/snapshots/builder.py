"""Boots a function once, lets it initialise, and saves it where it asks for its first event."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from kasoku.leases.model import Lease
from kasoku.node.broker import Broker, SavedSession, SessionPlan
from kasoku.node.errors import FunctionFailed, PlatformError
from kasoku.node.failures import read_failure
from kasoku.node.framed import ConnectionEnded
from kasoku.node.launch import SDK, description, environment, launch
from kasoku.node.logs import FunctionLog
from kasoku.node.process import PipeReader, Sink, close_all
from kasoku.node.runner import MAX_PAYLOAD, Hello, InitError, Ready, RunnerProtocol
from kasoku.node.sharing import SessionMemory
from kasoku.node.site import Site
from kasoku.node.snapshots.file import seal
from kasoku.node.snapshots.saved import Saved
from kasoku.node.vm import Vm
from kasoku.registry.model import FunctionVersion

RAM_OFFSET = 2 << 20
"""Where RAM begins in a snapshot (`abi/src/snapshot.rs`); its length is a multiple of the same number."""
MAX_INIT_SECONDS = 60.0
SESSION_DEADLINE_MS = 10_000
"""How long an initialised function's commands may still run on its device."""
MAX_HELD_OUTPUT = 64 << 10


class NoSnapshotError(Exception):
    """The function cannot be saved; the message says why. Its instances boot."""


class NeedsDeviceError(Exception):
    """The function cannot be initialised without the device that it asks for."""


@dataclass(frozen=True, slots=True)
class _Device:
    """A session for the guest, and the broker that serves it, if one does."""

    descriptors: list[int]
    broker: Broker | None


async def build(function: FunctionVersion, site: Site, log: FunctionLog, lease: Lease | None = None) -> Saved:
    """The function at readiness. Raises NoSnapshotError, PlatformError, or NeedsDeviceError when it wants a device."""
    if not function.options.accelerator:
        return await _build(function, site, log, None)
    if lease is not None:
        async with _leased(function, site, log, lease) as device:
            return await _build(function, site, log, device)
    # What a function says for want of a device is not for its log: it will say it again with one.
    held = bytearray()
    try:
        with _no_device(function) as device:
            saved = await _build(function, site, lambda text: held.extend(text[: MAX_HELD_OUTPUT - len(held)]), device)
    except NoSnapshotError as error:
        raise NeedsDeviceError(str(error)) from None
    log.write(bytes(held))
    return saved


async def _build(function: FunctionVersion, site: Site, log: FunctionLog | Sink, device: _Device | None) -> Saved:
    write = log.write if isinstance(log, FunctionLog) else log
    limit = min(function.options.init_timeout, MAX_INIT_SECONDS)
    with contextlib.ExitStack() as stack:
        read_end, output = os.pipe2(os.O_CLOEXEC)
        stack.callback(close_all, [output])
        stack.callback(PipeReader(read_end, write).close)
        vm, runner = await launch(
            site, function, function.name[:64], output, _console(write), device.descriptors if device else []
        )
        try:
            async with asyncio.timeout(limit):
                await _initialise(function, runner)
            return await _save(vm, function, device.broker if device else None)
        except TimeoutError:
            raise NoSnapshotError(f"its initialisation took more than {limit:g} s") from None
        except ConnectionEnded as error:
            raise NoSnapshotError(f"it ended while it was initialised: {error}") from None
        except FunctionFailed as error:
            raise NoSnapshotError(f"its initialisation fails: {error.failure.error_message}") from None
        finally:
            runner.close()
            await vm.stop()


def _console(write: Sink) -> Sink:
    return lambda text: write(b"".join(b"[kasoku] " + line + b"\n" for line in text.splitlines()))


async def _initialise(function: FunctionVersion, runner: RunnerProtocol) -> None:
    hello, _ = await runner.receive()
    if not isinstance(hello, Hello):
        raise ConnectionEnded(f"the runner began with {type(hello).__name__}")
    withheld = [*(name for name, _ in function.options.env), *function.options.secrets]
    if function.options.accelerator:
        withheld.append("KASOKU_ACCELERATOR")
    runner.send(
        {
            "type": "init",
            "handler": function.handler,
            "environment": environment(function, hello.python[:64]),
            "withheld": withheld,
            "package_paths": [*function.package_paths, SDK],
            "max_response_bytes": MAX_PAYLOAD,
            "function": description(function, "", None),
            "warmup": function.options.warmup,
        }
    )
    answer, body = await runner.receive()
    if not isinstance(answer, Ready | InitError):
        raise ConnectionEnded(f"the runner answered {type(answer).__name__}")
    if answer.withheld:
        read = ", ".join(name[:64] for name in answer.withheld[:8])
        raise NoSnapshotError(f"its initialisation reads {read}, which a snapshot must not hold")
    if isinstance(answer, InitError):
        raise FunctionFailed(read_failure(body, ""))


async def _save(vm: Vm, function: FunctionVersion, broker: Broker | None) -> Saved:
    file = os.memfd_create("kasoku-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        memory = function.options.memory << 20
        os.ftruncate(file, RAM_OFFSET + -(-memory // RAM_OFFSET) * RAM_OFFSET)
        if reason := await vm.save(file, accelerator=broker is not None):
            raise NoSnapshotError(reason)
        seal(file)
        # The guest runs no more: what it gave to the broker is all that there will be.
        session = await _save_session(broker) if broker else None
    except OSError as error:
        os.close(file)
        raise PlatformError("ServiceException", f"a snapshot cannot be made: {error}") from None
    except BaseException:
        os.close(file)
        raise
    return Saved(file, session.file, str(session.manifest["identity"])) if session else Saved(file)


async def _save_session(broker: Broker) -> SavedSession:
    try:
        return await broker.save(SESSION_DEADLINE_MS)
    except PlatformError as error:
        raise NoSnapshotError(error.message) from None


@contextlib.contextmanager
def _no_device(function: FunctionVersion) -> Iterator[_Device]:
    """A session of the right size whose broker has died: a function that opens it here cannot be saved, one that only
    imports what it needs for it can. So no device is held up by a snapshot."""
    session = SessionMemory.create(function.options.arena)
    hung_up, other = os.pipe2(os.O_CLOEXEC)
    os.close(other)
    try:
        yield _Device([*session.descriptors, hung_up], None)
    finally:
        os.close(hung_up)
        session.close()


@contextlib.asynccontextmanager
async def _leased(function: FunctionVersion, site: Site, log: FunctionLog, lease: Lease) -> AsyncIterator[_Device]:
    """A session on the lease's device."""
    with contextlib.ExitStack() as stack:
        session = SessionMemory.create(function.options.arena)
        stack.callback(session.close)
        options = function.options
        plan = SessionPlan(session, log.write, _console(log.write), present=options.present, recover=options.recover)
        broker = await Broker.start(site.native, lease, site.home.leases, plan)
        try:
            await broker.ready(lease.device)
            yield _Device([*session.descriptors, broker.alive], broker)
        finally:
            await broker.stop()
