"""The control socket of `kasoku-vmm`: u32 little-endian length and one MessagePack map with a `type`.

The first message, `boot`, carries the guest's descriptors as SCM_RIGHTS; numbers in it are indices into that list.
"""

import socket
import struct
from typing import Any

import msgspec

from kasoku.node.framed import FramedProtocol

VERSION = 1
MAX_MESSAGE = 4 << 20
_LENGTH = struct.Struct("<I")


class Started(msgspec.Struct, tag="started"):
    """The library OS is about to run the program."""

    libos_ms: float = 0.0


class Console(msgspec.Struct, tag="console"):
    """Text from the library OS itself, such as the name of a system call that is missing."""

    text: str


class Stats(msgspec.Struct, tag="stats"):
    """Answer to `stats`; the figures vary with the monitor's version."""


class Snapshot(msgspec.Struct, tag="snapshot"):
    """The guest was saved."""

    pages: int


class Reset(msgspec.Struct, tag="reset"):
    """The guest was put back to its snapshot."""

    us: int
    """Microseconds that it took."""
    copied: int = 0
    """Pages whose contents were copied back."""
    dropped: int = 0
    """Pages that were given back to the host."""


class Trimmed(msgspec.Struct, tag="trimmed"):
    """The guest has given memory back."""

    us: int
    """Microseconds for which it rested."""
    bytes: int
    reason: str | None = None
    """Why it has not, if so."""


class Blob(msgspec.Struct, tag="blob"):
    """The guest has a blob at this offset of `/dev/kasoku/blobs`."""

    offset: int


class Unsaved(msgspec.Struct, tag="unsaved"):
    """The guest could not be saved, and goes on."""

    reason: str


class Exited(msgspec.Struct, tag="exited"):
    """The program ended; `status` is a wait status."""

    status: int
    peak_memory_mib: float | None = None


class Fault(msgspec.Struct, tag="fault"):
    """The VM could not go on. `kind`: `boot` (it never started), `snapshot` (that one cannot be used),
    `guest` (its own doing), `vmm` (ours)."""

    kind: str
    message: str
    report: str = ""


Event = Started | Console | Stats | Snapshot | Unsaved | Reset | Trimmed | Blob | Exited | Fault
_decoder = msgspec.msgpack.Decoder(Event)


class ControlProtocol(FramedProtocol[Event]):
    """The agent's end."""

    def cut(self, buffer: bytearray) -> tuple[Event, int] | None:
        if len(buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if length > MAX_MESSAGE:
            raise ValueError(f"{length} bytes are more than {MAX_MESSAGE}")
        end = _LENGTH.size + length
        if len(buffer) < end:
            return None
        try:
            return _decoder.decode(bytes(buffer[_LENGTH.size : end])), end
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None

    def send(self, message: dict[str, Any]) -> None:
        """Send one message without descriptors."""
        self.write(encode(message))


def encode(message: dict[str, Any]) -> bytes:
    """A message as the monitor reads it."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def send_with(connection: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
    """Send one message on a blocking socket, descriptors with its first byte."""
    data = encode({"version": VERSION, **message})
    sent = socket.send_fds(connection, [data], descriptors)
    connection.sendall(data[sent:])
