"""The invocation channel: frames of u32 header length, u32 body length (little-endian), a JSON header, a raw body."""

import _thread
import json
import os
import struct
from typing import Any

LENGTHS = struct.Struct("<II")
READ_AHEAD = 16384
# `loads` looks for encodings and white space, which the other end does not send, and `dumps` makes an encoder for each
# frame. Each page of memory less that a clone touches before its first event is a fault less.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


class Channel:
    """Blocking frames over one descriptor. The other end is the node agent, which is trusted."""

    def __init__(self, descriptor: int, output: int | None = None) -> None:
        self._descriptor = descriptor
        self._output = descriptor if output is None else output
        self._ahead = b""
        self._sending = _thread.allocate_lock()

    @classmethod
    def open(cls, name: str) -> "Channel":
        if name.startswith("fd:"):
            return cls(int(name[3:]))
        return cls(os.open(name, os.O_RDWR | os.O_CLOEXEC))

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """The next frame; None when the agent has closed the channel."""
        lengths = self._read(LENGTHS.size)
        if lengths is None:
            return None
        header_length, body_length = LENGTHS.unpack(lengths)
        frame = self._read(header_length + body_length)
        if frame is None:
            return None
        return _decode(str(frame[:header_length], "utf-8"))[0], frame[header_length:]

    def send(self, header: dict[str, Any], body: bytes | memoryview = b"") -> None:
        text = _encode(header).encode()
        frame = memoryview(LENGTHS.pack(len(text), len(body)) + text + body)
        with self._sending:
            while frame:
                frame = frame[os.write(self._output, frame) :]

    def _read(self, length: int) -> bytes | None:
        """The next bytes. More is taken than was asked for, if it is there: each read leaves the VM."""
        data = self._ahead
        if len(data) < length:
            parts = [data]
            missing = length - len(data)
            while missing > 0:
                part = os.read(self._descriptor, max(missing, READ_AHEAD))
                if not part:
                    return None
                parts.append(part)
                missing -= len(part)
            data = b"".join(parts)
        self._ahead = data[length:]
        return data[:length]
