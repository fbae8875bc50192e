"""A load generator for HTTP/1.1: keep-alive connections, one request at a time on each, in a process of its own.

Run as a program it prints JSON: `load.py HOST PORT CONNECTIONS SECONDS < REQUEST`. It parses no more of an answer than
its status and its length, so that it takes as little of the machine as it can from the server beside it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

WARM_UP_SHARE = 0.2


@dataclass(frozen=True)
class Load:
    """What a run measured: answers a second, and the latency of each in milliseconds."""

    rate: float
    latencies_ms: list[float]
    errors: int
    span_ms: float
    """From the first request to the last answer."""


def request(path: str, body: bytes, host: str, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of one POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def run(host: str, port: int, connections: int, seconds: float, sent: bytes) -> Load:
    """Generate load from another process; the first fifth of the time is a warm-up and not counted.

    In no seconds each connection asks once.
    """
    command = [sys.executable, __file__, host, str(port), str(connections), str(seconds)]
    done = subprocess.run(command, input=sent, capture_output=True, check=True)
    told = json.loads(done.stdout)
    return Load(told["rate"], told["latencies_ms"], told["errors"], told["span_ms"])


class _Connection(asyncio.Protocol):
    def __init__(self, sent: bytes, counted_from: float, until: float) -> None:
        self._sent = sent
        self._from = counted_from
        self._until = until
        self._buffer = b""
        self._began = 0.0
        self.first_at: float | None = None
        self.last_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.latencies: list[float] = []
        self.errors = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        if self.first_at is None:
            self.first_at = self._began
        assert self._transport
        self._transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.find(b"content-length:")
        if at < 0 or len(self._buffer) < head + 4 + int(lower[at + 15 :].split(b"\r\n", 1)[0]):
            return
        now = self.last_at = time.perf_counter()
        if self._began >= self._from:
            self.latencies.append((now - self._began) * 1000)
            self.errors += not self._buffer.startswith(b"HTTP/1.1 2")
        self._buffer = b""
        if now < self._until:
            self._ask()
        else:
            assert self._transport
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += exc is not None
        if not self.done.done():
            self.done.set_result(None)


def _same(connection: _Connection) -> _Connection:
    return connection


async def _generate(host: str, port: int, connections: int, seconds: float, sent: bytes) -> dict[str, object]:
    now = time.perf_counter()
    counted_from, until = now + seconds * WARM_UP_SHARE, now + seconds
    made = [_Connection(sent, counted_from, until) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    for connection in made:
        await loop.create_connection(partial(_same, connection), host, port)
    await asyncio.gather(*(connection.done for connection in made))
    latencies = [value for connection in made for value in connection.latencies]
    rate = len(latencies) / (seconds * (1 - WARM_UP_SHARE)) if seconds else 0.0
    span = max(c.last_at for c in made) - min(c.first_at for c in made if c.first_at is not None)
    errors = sum(connection.errors for connection in made)
    return {"rate": rate, "latencies_ms": latencies, "errors": errors, "span_ms": span * 1000}


if __name__ == "__main__":
    import uvloop

    target, port, connections, seconds = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_generate(target, int(port), int(connections), float(seconds), sys.stdin.buffer.read()))
    print(json.dumps(found))
