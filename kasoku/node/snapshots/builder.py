"""Boots a function once, lets it initialise, and saves it where it asks for its first event."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

from kasoku.node.errors import FunctionFailed, PlatformError
from kasoku.node.failures import read_failure
from kasoku.node.framed import ConnectionEnded
from kasoku.node.launch import SDK, environment, launch
from kasoku.node.logs import FunctionLog
from kasoku.node.process import PipeReader, close_all
from kasoku.node.runner import MAX_PAYLOAD, Hello, InitError, Ready, RunnerProtocol
from kasoku.node.sharing import SessionMemory
from kasoku.node.site import Site
from kasoku.node.snapshots.file import seal
from kasoku.node.vm import Vm
from kasoku.registry.model import FunctionVersion

RAM_OFFSET = 2 << 20
"""Where RAM begins in a snapshot (`abi/src/snapshot.rs`); its length is a multiple of the same number."""
MAX_INIT_SECONDS = 60.0


class NoSnapshotError(Exception):
    """The function cannot be saved; the message says why. Its instances boot."""


async def build(function: FunctionVersion, site: Site, log: FunctionLog) -> int:
    """A sealed memory file with the function at readiness. Raises NoSnapshotError or PlatformError."""
    limit = min(function.options.init_timeout, MAX_INIT_SECONDS)
    with contextlib.ExitStack() as stack:
        read_end, output = os.pipe2(os.O_CLOEXEC)
        stack.callback(close_all, [output])
        stack.callback(PipeReader(read_end, log.write).close)
        accelerator = stack.enter_context(_no_accelerator(function)) if function.options.accelerator else []

        def console(text: bytes) -> None:
            log.write(b"".join(b"[kasoku] " + line + b"\n" for line in text.splitlines()))

        vm, runner = await launch(site, function, function.name[:64], output, console, accelerator)
        try:
            async with asyncio.timeout(limit):
                await _initialise(function, runner)
            return await _save(vm, function)
        except TimeoutError:
            raise NoSnapshotError(f"its initialisation took more than {limit:g} s") from None
        except ConnectionEnded as error:
            raise NoSnapshotError(f"it ended while it was initialised: {error}") from None
        except FunctionFailed as error:
            raise NoSnapshotError(f"its initialisation fails: {error.failure.error_message}") from None
        finally:
            runner.close()
            await vm.stop()


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
            "function": {},
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


async def _save(vm: Vm, function: FunctionVersion) -> int:
    file = os.memfd_create("kasoku-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        memory = function.options.memory << 20
        os.ftruncate(file, RAM_OFFSET + -(-memory // RAM_OFFSET) * RAM_OFFSET)
        if reason := await vm.save(file):
            raise NoSnapshotError(reason)
        seal(file)
    except OSError as error:
        os.close(file)
        raise PlatformError("ServiceException", f"a snapshot cannot be made: {error}") from None
    except BaseException:
        os.close(file)
        raise
    return file


@contextlib.contextmanager
def _no_accelerator(function: FunctionVersion) -> Iterator[list[int]]:
    """A session of the right size whose broker has died: a function that opens it here cannot be saved, one that only
    imports what it needs for it can. So no device is held up by a snapshot."""
    session = SessionMemory.create(function.options.arena)
    hung_up, other = os.pipe2(os.O_CLOEXEC)
    os.close(other)
    try:
        yield [*session.descriptors, hung_up]
    finally:
        os.close(hung_up)
        session.close()
