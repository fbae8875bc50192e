"""Uvicorn's HTTP protocol with a short way for Invoke and spawn, every call's path.

ASGI costs a request two writes, three wrappers and their messages. An Invoke whose body is there already (all but very
large ones are, when their head is parsed) is answered by one coroutine and one write; anything unusual about it (a body
that comes in pieces, `Expect`, HTTP/1.0) takes the way of all others. What is checked is the same on both ways.

A client says the same head again and again. One that has been parsed is kept, byte for byte: a request that begins a
message with the very same bytes, and whose body is complete, means the same and is not parsed again.
"""

import asyncio
import logging
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from kasoku.gateway.access import Access
from kasoku.gateway.calls import MAX_EVENT
from kasoku.gateway.errors import Headers, error_response, fault
from kasoku.gateway.hosts import HostCheck
from kasoku.gateway.invoke import InvokeRoute, Response, is_invoke
from kasoku.gateway.sigv4 import ALGORITHM
from kasoku.gateway.spawn import SpawnRoute, is_spawn
from kasoku.node.deadline import Deadline
from kasoku.node.errors import PlatformError

_log = logging.getLogger(__name__)
HEAD_SECONDS = 10.0
"""From a request's first byte (or the connection) to the end of its head."""
BODY_SECONDS = 600.0
MAX_HEADS = 1024
"""Heads that are remembered, of at most MAX_HEAD bytes."""
MAX_HEAD = 4096
_END = b"\r\n\r\n"
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class ShortWay:
    """What the protocol needs to answer an Invoke by itself."""

    def __init__(self, hosts: HostCheck, access: Access, invoke: InvokeRoute, spawn: SpawnRoute) -> None:
        self._hosts = hosts
        self._access = access
        self._invoke = invoke
        self._spawn = spawn
        self.heads: dict[bytes, Known] = {}

    def takes(self, scope: Any) -> bool:
        """Whether a request is one of those that have a short way."""
        return is_invoke(scope) or is_spawn(scope)

    async def answer(self, scope: Any, payload: bytes) -> Response:
        """As the ASGI application answers."""
        try:
            self._hosts.check(scope)
            if self._access.demanded:
                scope["tenant"] = self._access.check(scope, payload)
        except PlatformError as error:
            return error_response(error, "")
        if is_spawn(scope):
            return await self._spawn.answer(scope, payload)
        return await self._invoke.answer(scope, payload)

    def remember(self, head: bytes, scope: Any, length: int) -> None:
        """Keep a head that was parsed, and that was the whole message but for `length` bytes of body."""
        if len(self.heads) >= MAX_HEADS:
            self.heads.clear()
        kept = {key: scope[key] for key in ("type", "method", "path", "raw_path", "query_string", "headers")}
        self.heads[head] = Known(kept, length)


@dataclass(frozen=True, slots=True)
class Known:
    """A head that was parsed before."""

    scope: dict[str, Any]
    length: int


class _Repeated:
    """In the place of uvicorn's cycle while a request with a known head is answered."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")
    message_event = asyncio.Event()
    """Of all of them: nobody waits for more of a message that is complete."""

    def __init__(self) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True


def make_protocol(way: ShortWay) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn's `http=`."""

    class GatewayProtocol(HttpToolsProtocol):
        """Also ends connections that send a request too slowly: whoever keeps many open would keep others out."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head_due = Deadline(self._end_slow)
            self._body_due = Deadline(self._end_slow)
            self._idle_due = Deadline(self.timeout_keep_alive_handler)
            self._inside = False
            """A message has begun and is not complete."""
            self._whole: bytes | None = None
            """What came last, if it began where a message may begin."""
            self._head_due.set(HEAD_SECONDS)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_due.clear()
            self._body_due.clear()
            self._idle_due.clear()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            cycle = self.cycle
            if self._inside or not (cycle is None or cycle.response_complete):
                self._whole = None
                return super().data_received(data)
            end = data.find(_END, 0, MAX_HEAD) + len(_END)
            known = way.heads.get(data[:end])
            if known is None or len(data) != end + known.length:
                self._whole = data
                return super().data_received(data)
            self._idle_due.clear()
            self._head_due.clear()
            repeated: Any = _Repeated()
            self.cycle = repeated
            self._start(self._answer(repeated, dict(known.scope), data[end:]))
            return None

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._inside = True
            self._head_due.set(HEAD_SECONDS)

        def on_headers_complete(self) -> None:
            self._head_due.clear()
            self._body_due.set(BODY_SECONDS)
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._inside = False
            self._body_due.clear()
            super().on_message_complete()

        def _unset_keepalive_if_required(self) -> None:
            self._idle_due.clear()

        def on_response_complete(self) -> None:
            # As uvicorn's, but for the timer, of which it makes a new one every time.
            self.server_state.total_requests += 1
            if self.transport.is_closing():
                return
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._idle_due.set(self.timeout_keep_alive)

        def _end_slow(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            # Called when the head is complete. A body in the same piece of data is parsed before the task runs.
            if not (way.takes(cycle.scope) and cycle.keep_alive) or cycle.waiting_for_100_continue:
                super()._start_asgi_task(cycle, app)
                return
            self._start(self._invoke(cycle, app))

        def _start(self, work: Any) -> None:
            task = self.loop.create_task(work)
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

        async def _invoke(self, cycle: RequestResponseCycle, app: Any) -> None:
            if cycle.more_body or len(cycle.body) > MAX_EVENT:
                await cycle.run_asgi(app)
                return
            self._remember(cycle)
            await self._answer(cycle, cycle.scope, bytes(cycle.body))

        def _remember(self, cycle: RequestResponseCycle) -> None:
            """Keep the head of a message that came whole and alone; not a signed one, which will not come again."""
            data, self._whole, length = self._whole, None, len(cycle.body)
            if data is None or len(data) <= length or not data[: len(data) - length].endswith(_END):
                return
            head = data[: len(data) - length]
            if len(head) > MAX_HEAD or head.find(_END) + len(_END) != len(head):
                return
            names = [name for name, _ in cycle.scope["headers"]]
            signed = any(n == b"authorization" and v.startswith(ALGORITHM.encode()) for n, v in cycle.scope["headers"])
            if not signed and names.count(b"content-length") == 1 and b"transfer-encoding" not in names:
                way.remember(head, cycle.scope, length)

        async def _answer(self, cycle: Any, scope: Any, payload: bytes) -> None:
            try:
                status, headers, body = await way.answer(scope, payload)
            except Exception as error:  # whatever it is, whoever asked must hear of it
                id = str(uuid.uuid4())
                _log.exception("%s %s", scope["method"], scope["path"], extra={"requestId": id})
                status, headers, body = error_response(fault(error), id)
            if self.flow.write_paused and not cycle.disconnected:
                await self.flow.drain()
            if cycle.disconnected:
                return
            self.transport.write(_message(status, (*self.server_state.default_headers, *headers), body))
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:  # the server is about to end
                self.transport.close()
            self.on_response_complete()

    return GatewayProtocol


def _message(status: int, headers: Headers | tuple[tuple[bytes, bytes], ...], body: bytes) -> bytes:
    parts = [_STATUS[status]]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"content-length: ", str(len(body)).encode(), _END, body)
    return b"".join(parts)
