"""The invocation channel, host side: frames of u32 header length, u32 body length, a JSON header, a raw body.

`guest/runner` holds the other end, one per language. What comes from it is hostile: lengths are bounded, headers are
decoded by type, bodies are checked where they are used.
"""

import struct
from typing import Any

import msgspec

from kasoku.node.framed import FramedProtocol

PROTOCOL = 1
MAX_PAYLOAD = 6 * 1024 * 1024
"""Bytes of a request or an answer, as in Lambda."""
_MAX_HEADER = 64 * 1024
_MAX_BODY = MAX_PAYLOAD
_LENGTHS = struct.Struct("<II")


class Hello(msgspec.Struct, tag="hello"):
    """The interpreter runs; nothing of the function was touched."""

    protocol: int
    pid: int = 0
    python: str = ""
    system: str = ""
    """What the guest's /proc/version says."""


class Ready(msgspec.Struct, tag="ready"):
    """The handler is imported."""

    timings: dict[str, float] = {}
    withheld: list[str] = []
    """Before a snapshot: variables that the function has looked at although they come only after the restore."""


class InitError(msgspec.Struct, tag="init_error"):
    """The handler cannot be had; the body says why."""

    withheld: list[str] = []
    """As in `Ready`: it may be why."""


class Chunk(msgspec.Struct, tag="chunk"):
    """A part of the result of an invocation that asked for parts; the body is its text."""

    request_id: str


class BlobPart(msgspec.Struct, tag="blob"):
    """A piece of a blob of the result; the body is its bytes. Blobs come one after the other, before the result."""

    request_id: str
    last: bool = False


class Result(msgspec.Struct, tag="result"):
    """The handler's result; the body is JSON, or frames (`kasoku.sdk.wire`) for who sent some."""

    request_id: str
    format: str = "json"
    timings: dict[str, float] = {}
    phases: dict[str, float] = {}
    spans: list[tuple[str, float, float]] = []
    """Of an invocation that is traced: name, begin and duration in milliseconds of the handler's time."""


class Error(msgspec.Struct, tag="error"):
    """The handler failed; the body says how. `final`: the program exits now."""

    request_id: str
    timings: dict[str, float] = {}
    phases: dict[str, float] = {}
    spans: list[tuple[str, float, float]] = []
    final: bool = False


Header = Hello | Ready | InitError | Chunk | BlobPart | Result | Error
_decoder = msgspec.json.Decoder(Header)
_encoder = msgspec.json.Encoder()


class RunnerProtocol(FramedProtocol[tuple[Header, bytes]]):
    """The agent's end of one instance's channel."""

    def cut(self, buffer: bytearray) -> tuple[tuple[Header, bytes], int] | None:
        if len(buffer) < _LENGTHS.size:
            return None
        header_length, body_length = _LENGTHS.unpack_from(buffer)
        if header_length > _MAX_HEADER or body_length > _MAX_BODY:
            raise ValueError(f"a header of {header_length} and a body of {body_length} bytes are too large")
        body_start = _LENGTHS.size + header_length
        end = body_start + body_length
        if len(buffer) < end:
            return None
        try:
            header = _decoder.decode(bytes(buffer[_LENGTHS.size : body_start]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        return (header, bytes(buffer[body_start:end])), end

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send one frame."""
        text = _encoder.encode(header)
        self.write(_LENGTHS.pack(len(text), len(body)) + text + body)
