"""One running copy of a function: its VM, its runner, and its broker if it holds a device.

Start, any number of invocations one at a time, one end. Every path leads through `stop`, which closes and reaps all
that `start` opened; when it returns, nothing of the instance exists and its device is free.
"""

import asyncio
import os
import time
from typing import Any, TypeVar

from kasoku.leases.model import Lease
from kasoku.node import told
from kasoku.node.broker import Broker, SessionPlan, SessionRefusedError
from kasoku.node.control import Reset
from kasoku.node.deadline import Deadline
from kasoku.node.errors import Failure, FunctionFailed, PlatformError
from kasoku.node.exchange import Inbox, take_parts
from kasoku.node.failures import explain, read_failure
from kasoku.node.framed import ConnectionEnded
from kasoku.node.launch import INVOKE, SDK, channel, description, environment, launch
from kasoku.node.lending import Lending
from kasoku.node.logs import FunctionLog, InvocationLog, StructuredLog
from kasoku.node.mailboxes import Mailboxes
from kasoku.node.outcome import Invocation, Outcome
from kasoku.node.process import PipeReader, close_all, processor_time_s
from kasoku.node.runner import (
    MAX_PAYLOAD,
    PROTOCOL,
    BlobPart,
    Chunk,
    Error,
    Hello,
    InitError,
    Ready,
    Result,
    RunnerProtocol,
)
from kasoku.node.sharing import SessionMemory
from kasoku.node.shells import Shells
from kasoku.node.site import Site
from kasoku.node.snapshots.manager import Snapshots
from kasoku.node.snapshots.saved import Saved
from kasoku.node.standbys import Standbys
from kasoku.node.vm import Vm, VmEnd
from kasoku.registry.model import FunctionVersion

CHANNEL_GRACE_SECONDS = 2.0
MAX_SPANS = 64

H = TypeVar("H", Hello, Ready)


class Instance:
    """See the module. Times are milliseconds in `timings`, seconds of the event loop's clock elsewhere."""

    def __init__(
        self,
        id: str,
        function: FunctionVersion,
        site: Site,
        log: FunctionLog,
        lease: Lease | None,
        snapshots: Snapshots | None = None,
        shells: Shells | None = None,
        standbys: Standbys | None = None,
        *,
        json_logs: bool = False,
    ) -> None:
        self.id = id
        self.function = function
        self.lease = lease
        self.timings: dict[str, float] = {}
        self.guest_system = ""
        self.guest_python = ""
        self.restored = False
        """Whether it went on from a snapshot instead of booting."""
        self.invocations = 0
        self.resets = 0
        """How often it was put back to its snapshot."""
        self.started_at = time.time()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Becomes the reason when the instance can no longer be used."""
        self._site = site
        self._snapshots = snapshots
        self._shells = shells
        self._standbys = standbys
        self._log = InvocationLog(log, StructuredLog(log, id) if json_logs else None)
        self._vm: Vm | None = None
        self._broker: Broker | None = None
        self._runner: RunnerProtocol | None = None
        self._outputs: list[PipeReader] = []
        self._session: SessionMemory | None = None
        self._saved_session: int | None = None
        """The session's part of the snapshot, for an instance that is put back to it."""
        self._ready: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._lending = Lending()
        self._boxes: Mailboxes | None = None
        self._deadlines = {Deadline(self._on_deadline)}
        """Of the invocations that run; one serves all invocations that come one after the other."""

    @property
    def pid(self) -> int | None:
        """Process of the VM."""
        return self._vm.pid if self._vm else None

    @property
    def cpu_s(self) -> float | None:
        """Processor time that the VM's process has used, in seconds. One system call."""
        return processor_time_s(self._vm.pid) if self._vm else None

    @property
    def broker_pid(self) -> int | None:
        """Process of the broker, for an instance that holds a device."""
        return self._broker.pid if self._broker else None

    async def start(self) -> None:
        """Boot, import the handler. Raises FunctionFailed or PlatformError; then nothing is left of the instance."""
        try:
            await self._start()
        except FunctionFailed as error:
            error.log = self._log.tail()
            raise

    async def _start(self) -> None:
        options = self.function.options
        try:
            async with asyncio.timeout(options.init_timeout):
                await self._bring_up()
        except TimeoutError:
            await self.stop("init timed out")
            message = f"Error: Init timed out after {options.init_timeout:.2f} seconds"
            raise FunctionFailed(Failure("Sandbox.Timedout", message)) from None
        except ConnectionEnded as error:
            raise await self._explain("", str(error)) from None
        except OSError as error:
            await self.stop("failed to start")
            raise PlatformError("ServiceException", f"an instance cannot be started: {error}") from None
        except BaseException:
            await self.stop("failed to start")
            raise

    async def _bring_up(self) -> None:
        device = self.lease.device if self.lease else None
        snapshot = self._snapshots.find(self.function, device) if self._snapshots else None
        if snapshot is not None:
            try:
                if await self._restore(snapshot):
                    return
            finally:
                snapshot.close()
        await self._boot()

    async def _restore(self, snapshot: Saved) -> bool:
        """Go on from a snapshot; False when it cannot be used, and nothing of the attempt is left."""
        clock = _Clock(self.timings)
        assert self._snapshots
        try:
            if self.lease:
                await self._acquire(self.lease, snapshot.session)
            if self._ready and self._broker and snapshot.session is not None:
                # Its memory is being filled: nothing of the guest may run before that has ended.
                filled = asyncio.ensure_future(self._broker.filled.wait())
                await asyncio.wait([self._ready, filled], return_when=asyncio.FIRST_COMPLETED)
                filled.cancel()
                if self._ready.done():
                    await self._ready
            await self._launch(snapshot)
            if self._ready:
                await self._ready
            self._send_restore()
            await self._expect(Ready)
        except SessionRefusedError as error:
            return await self._give_up(str(error))
        except ConnectionEnded:
            if self._stopping or self._vm is None:
                raise
            await asyncio.wait([self._vm.ended], timeout=CHANNEL_GRACE_SECONDS)
            if not self._vm.ended.done() or self._vm.ended.result().kind == "exited":
                raise
            return await self._give_up(self._vm.ended.result().message)
        assert self._vm
        self._vm.ended.add_done_callback(self._on_vm_end)
        if self.function.options.isolation == "invocation" and snapshot.session is not None:
            self._saved_session = os.dup(snapshot.session)
        self.restored = True
        clock.lap("restore_ms")
        return True

    def _on_vm_end(self, ended: "asyncio.Future[VmEnd]") -> None:
        end = ended.result()
        self._lose(f"its virtual machine ended: {end.message or end.kind}")

    def _send_restore(self) -> None:
        """Tell the runner of a guest at its snapshot who it is from here on."""
        assert self._runner
        message = {"type": "restore", "environment": self._own_environment(), "function": self._description()}
        self._runner.send(message)

    async def _give_up(self, reason: str) -> bool:
        """The snapshot cannot be used: False, and nothing is left of what was begun."""
        assert self._snapshots
        self._snapshots.reject(self.function, reason)
        self.timings.clear()
        await self._take_apart()
        self._vm = self._broker = self._runner = self._session = self._ready = None
        self._outputs.clear()
        return False

    async def _boot(self) -> None:
        clock = _Clock(self.timings)
        if self.lease:
            await self._acquire(self.lease)
        await self._launch()
        assert self._vm and self._runner
        self._vm.ended.add_done_callback(self._on_vm_end)
        await self._vm.running()
        clock.lap("vm_ms")
        hello = await self._expect(Hello)
        if hello.protocol != PROTOCOL:
            raise PlatformError("ServiceException", f"the runner speaks protocol {hello.protocol}, not {PROTOCOL}")
        self.guest_system, self.guest_python = hello.system[:256], hello.python[:64]
        clock.lap("interpreter_ms")
        if self._ready:
            await self._ready
        self._runner.send(self._init_message())
        ready = await self._expect(Ready)
        clock.lap("imports_ms")
        self.timings["imports_ms"] = told.plausible(ready.timings.get("imports_ms"), self.timings["imports_ms"])

    async def _acquire(self, lease: Lease, saved: int | None = None) -> None:
        """Start the broker, with a saved session or a new one."""
        memory = self._session = SessionMemory.create(self.function.options.arena)
        session = self._plan(memory, saved)
        standby = self._standbys.take(lease.device) if self._standbys else None
        if standby is not None:
            self._broker = standby
            try:
                await standby.take(lease, session)
            except PlatformError:  # it has ended in this very moment
                await standby.stop()
                standby = None
        if standby is None:
            leases = self._site.home.leases
            self._broker = await Broker.start(self._site.native, lease, leases, session)
        broker = self._broker
        assert broker
        broker.exited.add_done_callback(lambda _: self._on_broker_end(broker))
        self._ready = asyncio.create_task(self._await_broker(broker, lease))

    def _plan(self, memory: SessionMemory, saved: int | None) -> SessionPlan:
        options = self.function.options
        return SessionPlan(memory, self._log, self._console, saved, options.present, options.recover)

    def _on_broker_end(self, broker: Broker) -> None:
        """One that ends before it is ready says why to whoever waits for that; it may be replaced."""
        if broker is self._broker and "broker_ms" in self.timings:
            self._lose("its broker ended")

    async def _await_broker(self, broker: Broker, lease: Lease) -> None:
        """The device opens while the VM boots: `broker_ms` overlaps the figures of the VM and the interpreter."""
        start = time.perf_counter()
        await broker.ready(lease.device)
        self.timings["broker_ms"] = (time.perf_counter() - start) * 1000
        if broker.exited.done():
            self._lose("its broker ended")

    def _pipe(self) -> int:
        """The writing end of a new pipe into the function's log."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        self._outputs.append(PipeReader(read_end, self._log))
        return write_end

    async def _launch(self, snapshot: Saved | None = None) -> None:
        output = self._pipe()
        accelerator = [*self._session.descriptors, self._broker.alive] if self._session and self._broker else []
        try:
            self._vm, self._runner = await launch(
                self._site, self.function, self.id, output, self._console, accelerator, snapshot, self._shells
            )
        finally:
            close_all([output])

    def _init_message(self) -> dict[str, Any]:
        function = self.function
        return {
            "type": "init",
            "handler": function.handler,
            "environment": {**environment(function, self.guest_python), **self._own_environment()},
            "package_paths": [*function.package_paths, SDK],
            "max_response_bytes": MAX_PAYLOAD,
            "function": self._description(),
        }

    def _own_environment(self) -> dict[str, str]:
        """Variables that no snapshot holds: the function's own, which may be secrets, and this instance's device."""
        accelerator = {"KASOKU_ACCELERATOR": self.lease.device.full_id} if self.lease else {}
        options = self.function.options
        return {**accelerator, **dict(options.env), **self._site.secrets(self.function)}

    def _description(self) -> dict[str, Any]:
        return description(self.function, self.id, self.lease.device.full_id if self.lease else None)

    async def _expect(self, kind: type[H]) -> H:
        assert self._runner
        header, body = await self._runner.receive()
        if isinstance(header, kind):
            return header
        if isinstance(header, InitError):
            failure = read_failure(body, "")
            await self.stop("the handler cannot be had")
            raise FunctionFailed(failure)
        raise ConnectionEnded(f"the runner sent {type(header).__name__}, not {kind.__name__}")

    async def invoke(self, invocation: Invocation) -> Outcome:
        """One event. The outcome tells of the function's failures; PlatformError is raised for ours.

        An instance whose `ended` is done afterwards must not be used again.
        """
        assert self._runner
        request_id, options = invocation.request_id, self.function.options
        self.invocations += 1
        self._log.start(request_id, invocation.version)
        header: dict[str, Any] = {
            "type": "invoke",
            "request_id": request_id,
            "timeout_ms": round(options.timeout * 1000),
            "version": invocation.version,
        }
        if invocation.arn:
            header["arn"] = invocation.arn
        if invocation.frames:
            header["format"] = "frames"
        if invocation.accepts_frames:
            header["accept"] = "frames"
        if invocation.on_chunk:
            header["chunks"] = "raw" if invocation.raw_chunks else "json"
        if invocation.client_context is not None:
            header["client_context"] = invocation.client_context
        if invocation.trace:
            header["trace"] = invocation.trace
        start = time.perf_counter()
        timings: dict[str, float] = {}
        spans: list[tuple[str, float, float]] = []
        phases: dict[str, float] = {}
        body, failure, frames, kept = b"", None, False, list[str]()
        inbox, deadline = self._begin(request_id)
        try:
            if invocation.blobs:
                assert self._vm
                header["blobs"] = await self._lending.lend(self._vm, invocation.blobs)
            deadline.set(options.timeout)
            self._runner.send(header, invocation.payload)
            answer, body = await inbox.receive()
            deadline.clear()
            if isinstance(answer, Chunk | BlobPart):
                async with asyncio.timeout(options.timeout - (time.perf_counter() - start)):
                    answer, body, kept = await take_parts(inbox, invocation, answer, body)
            if not isinstance(answer, Result | Error) or answer.request_id != request_id:
                raise ConnectionEnded("the runner answered something else")
            timings, phases = told.numbers(answer.timings), told.phases(answer.phases)
            spans = answer.spans[:MAX_SPANS]
            if isinstance(answer, Error):
                failure = read_failure(body, request_id)
                if answer.final:
                    await self.stop("the function exited")
            elif answer.format == "frames" and invocation.accepts_frames:
                frames = True
            else:
                failure = told.check_result(body, request_id)
        except TimeoutError:
            message = f"RequestId: {request_id} Error: Task timed out after {options.timeout:.2f} seconds"
            failure = Failure("Sandbox.Timedout", message, (), request_id)
            await self._break_off("an invocation timed out")
        except ConnectionEnded as error:
            explained = await self._explain(request_id, str(error))
            if isinstance(explained, PlatformError):
                self._log.end(request_id, f"Error: {explained.message}")
                raise explained from None
            failure = explained.failure
        except BaseException:
            await self._break_off("an invocation was abandoned")
            raise
        finally:
            self._finish(request_id, deadline)
        if self._lending.is_full:
            self._lose("it has been lent as many blobs as it has room for")
        if self._broker and self._stopping is None and self._broker.lost:
            self._lose("its device was lost")
        duration_ms = (time.perf_counter() - start) * 1000
        for output in self._outputs:
            output.drain()
        if self._broker:
            self._broker.drain()
        report = f"Duration: {duration_ms:.2f} ms\tMemory Size: {options.memory} MB{self._start_report()}"
        if failure:
            report += f"\tError: {failure.error_type}"
        log = self._log.end(request_id, report)
        all_timings = {**timings, "duration_ms": duration_ms}
        if failure:
            return Outcome(b"", failure, log, all_timings, phases, spans=spans)
        return Outcome(body, None, log, all_timings, phases, frames, kept, spans)

    def _begin(self, request_id: str) -> tuple[Inbox, Deadline]:
        """Where an invocation's answers come, and its deadline."""
        assert self._runner
        if self.function.options.concurrency == 1:
            return self._runner, next(iter(self._deadlines))
        self._boxes = self._boxes or Mailboxes(self._runner)
        box = self._boxes.open(request_id)
        deadline = Deadline(lambda: box.interrupt(TimeoutError()))
        self._deadlines.add(deadline)
        return box, deadline

    def _finish(self, request_id: str, deadline: Deadline) -> None:
        if self._boxes:
            self._boxes.shut(request_id)
            self._deadlines.discard(deadline)
            deadline.close()

    async def _break_off(self, reason: str) -> None:
        """An invocation cannot go on, and nothing ends it but the end of the instance: at once, or, where others are
        served beside it, when those have ended."""
        if self._boxes:
            self._lose(reason)
        else:
            await self.stop(reason)

    async def reset(self) -> bool:
        """Put it back to its snapshot: nothing of an invocation is there for the next. False, and it must not be used
        again, when it has none."""
        if not self.restored or self.ended.done() or not self._vm or not self._runner:
            return False
        start = time.perf_counter()
        runner, theirs = await channel()
        before, self._runner = self._runner, runner
        try:
            async with asyncio.timeout(self.function.options.init_timeout):
                if self.lease is None:
                    done = await self._vm.reset(INVOKE, theirs.fileno())
                else:
                    done = await self._reset_with_device(self._vm, self.lease, theirs.fileno())
                self._send_restore()
                await self._expect(Ready)
        except (ConnectionEnded, TimeoutError, FunctionFailed, PlatformError, SessionRefusedError) as error:
            self._lose(f"it could not be put back: {error}")
            return False
        finally:
            theirs.close()
            before.close()
        for output in self._outputs:
            output.drain()
        self._lending.forget()
        self.resets += 1
        device = {name: value for name, value in self.timings.items() if name == "broker_ms"}
        took = (time.perf_counter() - start) * 1000
        self.timings = {**device, "reset_ms": took, "reset_memory_ms": done.us / 1000}
        return True

    async def _reset_with_device(self, vm: Vm, lease: Lease, descriptor: int) -> Reset:
        """The broker has run a caller's kernels, which could have left anything anywhere in its processes: another one
        takes over, in memory that is wiped while the guest rests. The guest's first look at it comes after `Ready`."""
        before, self._broker = self._broker, None
        assert before and self._session
        if await before.stop() != 0:
            raise PlatformError("ServiceException", "its broker did not end in good order")
        self.timings.pop("broker_ms", None)
        broker = self._standbys.take(lease.device) if self._standbys else None
        if broker is None:
            broker = await Broker.standby(self._site.native, lease.device, self._site.home.leases)
        self._broker = broker
        done = await vm.reset(INVOKE, descriptor, broker.alive)
        await broker.take(lease, self._plan(self._session, self._saved_session))
        await self._await_broker(broker, lease)
        broker.exited.add_done_callback(lambda _: self._on_broker_end(broker))
        return done

    async def trim(self) -> None:
        """Give memory back that holds nothing, while it is idle. An event that comes meanwhile waits: some 0.2 ms for
        each MiB that it has freed."""
        if self._vm and self._stopping is None:
            await self._vm.trim()

    def _on_deadline(self) -> None:
        if self._runner:
            self._runner.interrupt(TimeoutError())

    def _start_report(self) -> str:
        """What the first invocation's report says of the start, in Lambda's words."""
        if self.invocations > 1:
            return ""
        if self.restored:
            return f"\tRestore Duration: {self.timings['restore_ms']:.2f} ms"
        names = ("vm_ms", "interpreter_ms", "imports_ms")
        return f"\tInit Duration: {sum(self.timings.get(name, 0.0) for name in names):.2f} ms"

    async def _explain(self, request_id: str, what: str) -> FunctionFailed | PlatformError:
        """Why the runner's channel ended: what the VM's end says, or that the runner itself broke off."""
        if self._stopping is not None:
            await self._stopping
            return PlatformError("ServiceException", f"the instance was ended: {self.ended.result()}")
        if self._vm is None:
            await self.stop("failed to start")
            return PlatformError("ServiceException", f"an instance cannot be started: {what}")
        done, _ = await asyncio.wait([self._vm.ended], timeout=CHANNEL_GRACE_SECONDS)
        await self.stop("its channel ended")
        if done:
            return explain(self._vm.ended.result(), request_id, self.function.options.memory)
        prefix = f"RequestId: {request_id} Error: " if request_id else ""
        return FunctionFailed(
            Failure("Runtime.InvalidResponse", f"{prefix}the runner's channel cannot be used: {what}", (), request_id)
        )

    async def suspend(self) -> None:
        """Give the device up in the middle of an invocation, whose clock stops. The guest's next command waits.

        Raises PlatformError where the commands that run do not come to rest soon; then nothing has changed.
        """
        assert self._broker
        await self._broker.suspend()
        for deadline in self._deadlines:
            deadline.hold()

    async def resume(self, lease: Lease) -> None:
        """Go on, on a device of the same kind. Raises PlatformError."""
        assert self._broker
        await self._broker.resume(lease)
        self.lease = lease
        for deadline in self._deadlines:
            deadline.go_on()

    async def stop(self, reason: str) -> None:
        """End it, whatever it does, and wait until nothing of it is left. Any number of callers."""
        self._lose(reason)
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._tear_down())
        await asyncio.shield(self._stopping)

    async def _tear_down(self) -> None:
        for deadline in self._deadlines:
            deadline.clear()
        await self._take_apart()

    async def _take_apart(self) -> None:
        if self._runner:
            self._runner.close()
        if self._boxes:
            await self._boxes.close()
        if self._ready:
            self._ready.cancel()
            await asyncio.wait([self._ready])
        await asyncio.gather(*(part.stop() for part in (self._vm, self._broker) if part))
        for output in self._outputs:
            output.close()
        if self._session:
            self._session.close()
        if self._saved_session is not None:
            os.close(self._saved_session)
            self._saved_session = None

    def _lose(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _console(self, text: bytes) -> None:
        """What library OS, monitor and broker say goes to the function's log: it is about what the function did."""
        self._log(b"".join(b"[kasoku] " + line + b"\n" for line in text.splitlines()))


class _Clock:
    """Writes the milliseconds since the last lap into a mapping."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings = timings
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._timings[name] = (now - self._last) * 1000
        self._last = now
