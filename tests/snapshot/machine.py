"""A virtual machine driven over its control socket, as a node agent does, one step at a time."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kasoku.node.control import VERSION, encode
from kasoku.node.native import Native

RAM_OFFSET = 2 << 20
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
PATIENCE_SECONDS = 120.0


@dataclass
class Guest:
    """What runs, and in what."""

    layers: list[Path]
    args: list[str]
    memory_mib: int = 256
    vcpus: int = 1
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"})


class Machine:
    """One VM. Its standard output and error come by one pipe, channel 3 is a socket pair."""

    def __init__(self, guest: Guest, snapshot: int | None = None) -> None:
        self.output = b""
        self.console = ""
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        native = Native()
        self._control, theirs = socket.socketpair()
        self.channel, channel = socket.socketpair()
        self._pipe, output = os.pipe()
        stdin = os.open(os.devnull, os.O_RDONLY)
        layers = [os.open(path, os.O_RDONLY) for path in guest.layers]
        self.process = subprocess.Popen(
            [str(native.vmm), "--control-fd", str(theirs.fileno()), *native.options], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        descriptors = [*layers, stdin, output, channel.fileno()]
        first = len(layers)
        message: dict[str, Any] = {
            "version": VERSION,
            "layers": [{"fd": i, "size": os.fstat(fd).st_size} for i, fd in enumerate(layers)],
            "channels": {"0": first, "1": first + 1, "2": first + 1, "3": first + 2},
        }
        if snapshot is None:
            message |= {"type": "boot", "memory_mib": guest.memory_mib, "vcpus": guest.vcpus, "args": guest.args}
            message |= {"env": [list(pair) for pair in guest.env.items()], "cwd": "/", "hostname": "test"}
        else:
            message |= {"type": "restore", "snapshot": len(descriptors)}
            descriptors.append(snapshot)
        self.memory_mib = guest.memory_mib
        self._send(message, descriptors)
        for descriptor in (stdin, output, *layers):
            os.close(descriptor)
        channel.close()

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        data = encode(message)
        sent = socket.send_fds(self._control, [data], descriptors)
        self._control.sendall(data[sent:])

    def _pump(self) -> bool:
        """Take what has come from the control socket and the pipe; False when the VM has closed its end."""
        ready, _, _ = select.select([self._control.fileno(), self._pipe], [], [], 1)
        if self._pipe in ready:
            self.output += os.read(self._pipe, 1 << 16)
        if self._control.fileno() not in ready:
            return True
        data = self._control.recv(1 << 16)
        self._buffer += data
        while len(self._buffer) >= 4:
            (length,) = struct.unpack_from("<I", self._buffer)
            if len(self._buffer) < 4 + length:
                break
            event = msgspec.msgpack.decode(self._buffer[4 : 4 + length])
            self._buffer = self._buffer[4 + length :]
            if event["type"] == "console":
                self.console += event["text"]
            else:
                self.events.append(event)
        return bool(data)

    def wait_for(self, text: str) -> None:
        """Wait until the program has written a text."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text.encode() not in self.output:
            assert self._pump() and time.monotonic() < deadline, f"no {text!r}: {self.output!r} {self.events}"

    def wait_event(self, *kinds: str) -> dict[str, Any]:
        """The first event of one of these types; it is taken out."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for event in self.events:
                if event["type"] in kinds:
                    self.events.remove(event)
                    return event
            assert self._pump() and time.monotonic() < deadline, f"no {kinds}: {self.output!r} {self.console}"

    def snapshot(self, *, stop: bool = True) -> int:
        """Save the guest; the sealed memory file."""
        file = os.memfd_create("snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(file, RAM_OFFSET + (self.memory_mib << 20))
        self._send({"type": "snapshot", "stop": stop}, [file])
        event = self.wait_event("snapshot", "unsaved")
        assert event["type"] == "snapshot", event
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
        return file

    def finish(self) -> str:
        """Wait for the end; all that the program wrote."""
        event = self.wait_event("exited", "fault")
        assert event["type"] == "exited", (event, self.output, self.console)
        while os.get_blocking(self._pipe) and select.select([self._pipe], [], [], 0)[0]:
            data = os.read(self._pipe, 1 << 16)
            if not data:
                break
            self.output += data
        self.status = event["status"]
        self.close()
        return self.output.decode()

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for closable in (self._control, self.channel):
            closable.close()
        os.close(self._pipe)
