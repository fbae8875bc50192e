"""One virtual machine: the process `kasoku-vmm`, driven over its control socket."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from typing import Any

from kasoku.node.control import (
    Blob,
    Console,
    ControlProtocol,
    Exited,
    Fault,
    Reset,
    Snapshot,
    Started,
    Trimmed,
    Unsaved,
    send_with,
)
from kasoku.node.framed import ConnectionEnded
from kasoku.node.process import Child, PipeReader, Sink, Tail
from kasoku.node.shells import Shell

STOP_GRACE_SECONDS = 0.5
END_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class VmEnd:
    """How a VM ended."""

    kind: str
    """`exited` (the program ended); `guest`, `vmm`, `boot`, `snapshot` (faults); `lost` (the monitor died)."""
    status: int
    """Wait status of the program, for `exited`."""
    message: str
    report: str = ""


@dataclass(slots=True)
class VmPlan:
    """What a VM is made of; descriptors stay the caller's."""

    memory_mib: int
    vcpus: int
    layers: list[tuple[int, int]]
    """Descriptor and bytes of each layer, bottom first."""
    channels: dict[int, int]
    """Guest channel number to descriptor."""
    args: list[str]
    env: list[tuple[str, str]]
    hostname: str
    volumes: list[tuple[int, int, str]] = field(default_factory=list)
    """Descriptor, bytes and place of each volume."""
    snapshot: int | None = None
    """Descriptor of a sealed snapshot that the VM goes on from; arguments and environment are in it then."""
    resettable: bool = False
    """The VM may be put back to the snapshot later."""
    accelerator: list[int] = field(default_factory=list)
    """Memory, doorbell and wake descriptors of a session, and one that hangs up with its broker; empty without one."""

    def message(self) -> tuple[dict[str, Any], list[int]]:
        """The first message and the descriptors that its numbers index."""
        descriptors = [fd for fd, _ in self.layers]
        layers = [{"fd": i, "size": size} for i, (_, size) in enumerate(self.layers)]
        channels: dict[str, int] = {}
        for number, descriptor in self.channels.items():
            channels[str(number)] = len(descriptors)
            descriptors.append(descriptor)
        volumes: list[dict[str, Any]] = []
        for descriptor, size, path in self.volumes:
            volumes.append({"fd": len(descriptors), "size": size, "path": path})
            descriptors.append(descriptor)
        regions: list[dict[str, Any]] = []
        if self.accelerator:
            first = len(descriptors)
            names = ("memory", "doorbell", "wake", "alive")
            regions.append({"kind": "accel", **{name: first + i for i, name in enumerate(names)}})
            descriptors += self.accelerator
        bindings = {"layers": layers, "channels": channels, "regions": regions}
        if self.snapshot is not None:
            restore = {"type": "restore", "snapshot": len(descriptors), "resettable": self.resettable}
            # Which layers are volumes, and where they are, the guest knows already.
            bindings["layers"] = layers + [{"fd": volume["fd"], "size": volume["size"]} for volume in volumes]
            return {**restore, **bindings}, [*descriptors, self.snapshot]
        message = {
            "type": "boot",
            **bindings,
            "memory_mib": self.memory_mib,
            "vcpus": self.vcpus,
            "mounts": [],
            "volumes": volumes,
            "args": self.args,
            "env": [list(pair) for pair in self.env],
            "cwd": "/",
            "hostname": self.hostname,
            "strace": False,
        }
        return message, descriptors


class Vm:
    """A VM that runs or is about to. `ended` becomes a VmEnd, always."""

    def __init__(self, child: Child, control: ControlProtocol, connection: socket.socket, console: Sink) -> None:
        loop = asyncio.get_running_loop()
        self.pid = child.pid
        self._started: asyncio.Future[Any] = loop.create_future()
        self.ended: asyncio.Future[Any] = loop.create_future()
        self._child = child
        self._control = control
        self._connection = connection
        self._saved: asyncio.Future[str | None] | None = None
        self._was_reset: asyncio.Future[Reset] | None = None
        self._trimmed: asyncio.Future[Trimmed] | None = None
        self._was_lent: asyncio.Future[Blob] | None = None
        self._console = console
        self._stderr = Tail(console)
        self._reader: PipeReader | None = None
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def boot(cls, shell: Shell, plan: VmPlan, console: Sink) -> "Vm":
        """Make a blank monitor the VM of that plan."""
        message, descriptors = plan.message()
        with contextlib.suppress(OSError):  # it may have ended already: why is read below
            send_with(shell.control, message, descriptors)
        shell.control.setblocking(False)
        connection = shell.control.dup()
        _, control = await asyncio.get_running_loop().create_unix_connection(ControlProtocol, sock=shell.control)
        vm = cls(shell.child, control, connection, console)
        vm._reader = PipeReader(shell.errors, vm._stderr)
        vm._watch = asyncio.create_task(vm._follow())
        return vm

    async def running(self) -> None:
        """Wait until the library OS runs the program, or will never do so."""
        await asyncio.wait([self._started, self.ended], return_when=asyncio.FIRST_COMPLETED)

    async def save(self, file: int, *, accelerator: bool = False) -> str | None:
        """Save the guest into a memory file of a snapshot's length, and end it; None, or why it could not be saved.

        `accelerator`: the caller saves its session, if it has one, as well.
        """
        self._saved = asyncio.get_running_loop().create_future()
        with contextlib.suppress(OSError):
            send_with(self._connection, {"type": "snapshot", "stop": True, "accelerator": accelerator}, [file])
        await asyncio.wait([self._saved, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if self._saved.done():
            return self._saved.result()
        end: VmEnd = self.ended.result()
        return f"the virtual machine ended: {end.message or end.kind}"

    async def reset(self, channel: int, descriptor: int, alive: int | None = None) -> Reset:
        """Put the guest back to its snapshot, with another socket as that channel. Raises ConnectionEnded.

        With `alive`, a descriptor that hangs up with the next broker, its accelerator session is wiped for that one.
        """
        self._was_reset = asyncio.get_running_loop().create_future()
        message = {"type": "reset", "channel": channel, "sessions": alive is not None}
        try:
            send_with(self._connection, message, [descriptor, *([] if alive is None else [alive])])
        except OSError as error:
            raise ConnectionEnded(f"the virtual machine is gone: {error}") from None
        await asyncio.wait([self._was_reset, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if self._was_reset.done():
            return self._was_reset.result()
        end: VmEnd = self.ended.result()
        raise ConnectionEnded(f"the virtual machine ended: {end.message or end.kind}")

    async def trim(self) -> Trimmed | None:
        """Have the guest give memory back that holds nothing; None when it has ended."""
        if self._trimmed is None or self._trimmed.done():
            self._trimmed = asyncio.get_running_loop().create_future()
            if not self.ended.done():
                self._control.send({"type": "trim"})
        await asyncio.wait([self._trimmed, self.ended], return_when=asyncio.FIRST_COMPLETED)
        return self._trimmed.result() if self._trimmed.done() else None

    async def lend(self, descriptor: int, size: int) -> int:
        """Map a file of that size into the guest that runs, for reading; at which offset of its `/dev/kasoku/blobs`.

        One at a time. Raises ConnectionEnded.
        """
        self._was_lent = asyncio.get_running_loop().create_future()
        with contextlib.suppress(OSError):
            send_with(self._connection, {"type": "blob", "size": size}, [descriptor])
        await asyncio.wait([self._was_lent, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if self._was_lent.done():
            return self._was_lent.result().offset
        end: VmEnd = self.ended.result()
        raise ConnectionEnded(f"the virtual machine ended: {end.message or end.kind}")

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
        self._connection.close()
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
                    case Snapshot() | Unsaved():
                        if self._saved and not self._saved.done():
                            self._saved.set_result(event.reason if isinstance(event, Unsaved) else None)
                    case Trimmed():
                        if self._trimmed and not self._trimmed.done():
                            self._trimmed.set_result(event)
                    case Reset():
                        if self._was_reset and not self._was_reset.done():
                            self._was_reset.set_result(event)
                    case Blob():
                        if self._was_lent and not self._was_lent.done():
                            self._was_lent.set_result(event)
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
