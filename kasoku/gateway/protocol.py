"""Uvicorn's HTTP protocol with a short way for Invoke and spawn, every call's path.

ASGI costs a request two writes, three wrappers and their messages. An Invoke whose body is there already (all but very
large ones are, when their head is parsed) is answered by one coroutine and one write; anything unusual about it (a body
that comes in pieces, `Expect`, HTTP/1.0) takes the way of all others. What is checked is the same on both ways.
"""

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from kasoku.gateway.access import Access
from kasoku.gateway.calls import MAX_EVENT
from kasoku.gateway.errors import error_response
from kasoku.gateway.hosts import HostCheck
from kasoku.gateway.invoke import InvokeRoute, Response, is_invoke
from kasoku.gateway.spawn import SpawnRoute, is_spawn
from kasoku.node.deadline import Deadline
from kasoku.node.errors import PlatformError

HEAD_SECONDS = 10.0
"""From a request's first byte (or the connection) to the end of its head."""
BODY_SECONDS = 600.0
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class ShortWay:
    """What the protocol needs to answer an Invoke by itself."""

    def __init__(self, hosts: HostCheck, access: Access, invoke: InvokeRoute, spawn: SpawnRoute) -> None:
        self._hosts = hosts
        self._access = access
        self._invoke = invoke
        self._spawn = spawn

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


def make_protocol(way: ShortWay) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn's `http=`."""

    class GatewayProtocol(HttpToolsProtocol):
        """Also ends connections that send a request too slowly: whoever keeps many open would keep others out."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head_due = Deadline(self._end_slow)
            self._body_due = Deadline(self._end_slow)
            self._head_due.set(HEAD_SECONDS)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_due.clear()
            self._body_due.clear()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head_due.set(HEAD_SECONDS)

        def on_headers_complete(self) -> None:
            self._head_due.clear()
            self._body_due.set(BODY_SECONDS)
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._body_due.clear()
            super().on_message_complete()

        def _end_slow(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            # Called when the head is complete. A body in the same piece of data is parsed before the task runs.
            if not (way.takes(cycle.scope) and cycle.keep_alive) or cycle.waiting_for_100_continue:
                super()._start_asgi_task(cycle, app)
                return
            task = self.loop.create_task(self._invoke(cycle, app))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

        async def _invoke(self, cycle: RequestResponseCycle, app: Any) -> None:
            if cycle.more_body or len(cycle.body) > MAX_EVENT:
                await cycle.run_asgi(app)
                return
            status, headers, body = await way.answer(cycle.scope, bytes(cycle.body))
            if self.flow.write_paused and not cycle.disconnected:
                await self.flow.drain()
            if cycle.disconnected:
                return
            parts = [_STATUS[status]]
            for name, value in (*cycle.default_headers, *headers):
                parts += (name, b": ", value, b"\r\n")
            parts += (b"content-length: ", str(len(body)).encode(), b"\r\n\r\n", body)
            cycle.response_started = cycle.response_complete = True
            self.transport.write(b"".join(parts))
            cycle.message_event.set()
            cycle.on_response()

    return GatewayProtocol
