"""One virtual machine: the process `kasoku-vmm`, driven over its control socket."""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from kasoku.node.control import Console, ControlProtocol, Exited, Fault, Started, send_boot
from kasoku.node.errors import PlatformError
from kasoku.node.framed import ConnectionEnded
from kasoku.node.native import Native
from kasoku.node.process import Child, PipeReader, Sink, Tail, close_all

STOP_GRACE_SECONDS = 0.5
END_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class VmEnd:
    """How a VM ended."""

    kind: str
    """`exited` (the program ended), `guest`, `vmm`, `boot` (faults), `lost` (the monitor died without a word)."""
    status: int
    """Wait status of the program, for `exited`."""
    message: str
    report: str = ""


@dataclass(slots=True)
class VmPlan:
    """What a VM is made of; descriptors stay the caller's."""

    memory_mib: int
    layers: list[tuple[int, int]]
    """Descriptor and bytes of each layer, bottom first."""
    channels: dict[int, int]
    """Guest channel number to descriptor."""
    args: list[str]
    env: list[tuple[str, str]]
    hostname: str
    accelerator: list[int] = field(default_factory=list)
    """Memory, doorbell and wake descriptors of a session, and one that hangs up with its broker; empty without one."""

    def message(self) -> tuple[dict[str, Any], list[int]]:
        """The boot message and the descriptors that its numbers index."""
        descriptors = [fd for fd, _ in self.layers]
        layers = [{"fd": i, "size": size} for i, (_, size) in enumerate(self.layers)]
        channels: dict[str, int] = {}
        for number, descriptor in self.channels.items():
            channels[str(number)] = len(descriptors)
            descriptors.append(descriptor)
        regions: list[dict[str, Any]] = []
        if self.accelerator:
            first = len(descriptors)
            names = ("memory", "doorbell", "wake", "alive")
            regions.append({"kind": "accel", **{name: first + i for i, name in enumerate(names)}})
            descriptors += self.accelerator
        message = {
            "memory_mib": self.memory_mib,
            "vcpus": 1,
            "layers": layers,
            "channels": channels,
            "regions": regions,
            "mounts": [],
            "args": self.args,
            "env": [list(pair) for pair in self.env],
            "cwd": "/",
            "hostname": self.hostname,
            "strace": False,
        }
        return message, descriptors


class Vm:
    """A booted or booting VM. `ended` becomes a VmEnd, always."""

    def __init__(self, child: Child, control: ControlProtocol, console: Sink) -> None:
        loop = asyncio.get_running_loop()
        self.pid = child.pid
        self._started: asyncio.Future[Any] = loop.create_future()
        self.ended: asyncio.Future[Any] = loop.create_future()
        self._child = child
        self._control = control
        self._console = console
        self._stderr = Tail(console)
        self._reader: PipeReader | None = None
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def boot(cls, native: Native, plan: VmPlan, console: Sink) -> "Vm":
        """Spawn the monitor and send it `boot`. Raises PlatformError if it cannot even be spawned."""
        binary = str(native.vmm)
        ours, theirs = socket.socketpair()
        error_read, error_write = os.pipe2(os.O_CLOEXEC)
        try:
            child = Child.spawn(
                [binary, "--control-fd", str(theirs.fileno()), *native.options],
                [theirs.fileno()],
                {"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"},
                stdout=error_write,
                stderr=error_write,
            )
        except OSError as error:
            ours.close()
            close_all([error_read])
            raise PlatformError("ServiceException", f"kasoku-vmm cannot be started: {error}") from None
        finally:
            theirs.close()
            close_all([error_write])
        message, descriptors = plan.message()
        with contextlib.suppress(OSError):  # it may have ended already: why is read below
            send_boot(ours, message, descriptors)
        ours.setblocking(False)
        _, control = await asyncio.get_running_loop().create_unix_connection(ControlProtocol, sock=ours)
        vm = cls(child, control, console)
        vm._reader = PipeReader(error_read, vm._stderr)
        vm._watch = asyncio.create_task(vm._follow())
        return vm

    async def running(self) -> None:
        """Wait until the library OS runs the program, or will never do so."""
        await asyncio.wait([self._started, self.ended], return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> VmEnd:
        """End the VM now; the process is gone when this returns."""
        if not self._child.exited.done():
            self._control.send({"type": "stop"})
        code = await self._child.end(STOP_GRACE_SECONDS)
        await asyncio.wait([self.ended], timeout=END_GRACE_SECONDS)
        if not self.ended.done():
            self.ended.set_result(VmEnd("lost", code, "kasoku-vmm ended without saying how"))
        end: VmEnd = self.ended.result()
        if self._watch:
            self._watch.cancel()
        self._control.close()
        if self._reader:
            self._reader.close()
        return end

    async def _follow(self) -> None:
        end: VmEnd | None = None
        try:
            while end is None:
                event = await self._control.receive()
                match event:
                    case Started():
                        if not self._started.done():
                            self._started.set_result(event)
                    case Console():
                        self._console(event.text.encode(errors="replace"))
                    case Exited():
                        end = VmEnd("exited", event.status, "")
                    case Fault():
                        end = VmEnd(event.kind, 0, event.message, event.report)
        except ConnectionEnded as error:
            code = await self._child.end(END_GRACE_SECONDS)
            if self._reader:
                self._reader.drain()
            how = f"signal {-code}" if code < 0 else f"status {code}"
            end = VmEnd("lost", code, f"kasoku-vmm ended with {how} ({error}). {self._stderr.text()}".strip())
        if not self.ended.done():
            self.ended.set_result(end)
        if not self._started.done():
            self._started.cancel()
