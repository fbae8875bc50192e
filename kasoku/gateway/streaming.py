"""Results that come in parts: natively as lines of JSON, and as Lambda's InvokeWithResponseStream has it."""

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from kasoku.controller.controller import Served
from kasoku.gateway.body import ClientGone, read_body
from kasoku.gateway.invoke import check_payload, parse_client_context
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform, new_request_id
from kasoku.node.errors import Failure, FunctionFailed, PlatformError
from kasoku.node.logs import LAMBDA_TAIL_BYTES
from kasoku.node.outcome import check_json
from kasoku.node.runner import MAX_PAYLOAD
from kasoku.registry.model import Resolved

AHEAD = 16
"""Parts that may wait for the client; then the function waits."""
_EVENT_STREAM = "application/vnd.amazon.eventstream"


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Streaming(platform)
    return [
        Route("/v1/functions/{name}:stream", api.native, methods=["POST"]),
        Route("/2021-11-15/functions/{name}/response-streaming-invocations", api.as_lambda, methods=["POST"]),
    ]


class _Streaming:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def native(self, request: Request) -> Response:
        resolved, payload = await self._read(request, "qualifier")
        request_id = new_request_id()

        async def lines() -> AsyncIterator[bytes]:
            running = _Running(
                self._platform, resolved, request_id, payload, traceparent=request.headers.get("traceparent")
            )
            async with running:
                async for part in running.parts():
                    try:
                        check_json(part)
                    except ValueError:
                        continue  # a guest that speaks the protocol wrong loses its part, not the client's lines
                    yield b'{"item": ' + part.replace(b"\n", b" ") + b"}\n"
                last: dict[str, Any] = {"request_id": request_id}
                if failure := running.failure():
                    last["error"] = failure.to_json()
                yield json.dumps(last).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"x-amzn-requestid": request_id})

    async def as_lambda(self, request: Request) -> Response:
        resolved, payload = await self._read(request, "Qualifier")
        request_id = new_request_id()
        context = parse_client_context(request.headers.get("x-amz-client-context", "").encode("latin-1"))
        with_log = request.headers.get("x-amz-log-type") == "Tail"

        async def events() -> AsyncIterator[bytes]:
            running = _Running(
                self._platform,
                resolved,
                request_id,
                payload,
                context,
                raw=True,
                traceparent=request.headers.get("traceparent"),
            )
            async with running:
                async for part in running.parts():
                    yield event("PayloadChunk", "application/octet-stream", part)
                failure = running.failure()
                if failure is None and not running.streamed and running.served:
                    yield event("PayloadChunk", "application/octet-stream", running.served.outcome.payload)
                last: dict[str, str] = {}
                if failure:
                    last = {"ErrorCode": failure.error_type, "ErrorDetails": json.dumps(failure.to_json())}
                if with_log and running.served:
                    last["LogResult"] = base64.b64encode(running.served.outcome.log[-LAMBDA_TAIL_BYTES:]).decode()
                yield event("InvokeComplete", "application/json", json.dumps(last).encode())

        headers = {
            "x-amzn-requestid": request_id,
            "x-amz-executed-version": resolved.executed_version,
            "x-amzn-remapped-content-type": "application/octet-stream",
        }
        return StreamingResponse(events(), media_type=_EVENT_STREAM, headers=headers)

    async def _read(self, request: Request, qualifier: str) -> tuple[Resolved, bytes]:
        try:
            body = await read_body(request.scope, request.receive, MAX_PAYLOAD, "InvokeWithResponseStream")
        except ClientGone:
            raise PlatformError("InvalidRequestContentException", "the client went away") from None
        name = parse_name(request.path_params["name"], request.query_params.get(qualifier), tenant_of(request))
        return self._platform.catalog.resolve(*name), check_payload(body)


class _Running:
    """An invocation and the parts that it has made. Leaving the `async with` early ends it."""

    def __init__(
        self,
        platform: Platform,
        resolved: Resolved,
        request_id: str,
        payload: bytes,
        context: dict[str, Any] | None = None,
        *,
        raw: bool = False,
        traceparent: str | None = None,
    ) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)
        self._call = platform.invoke(
            resolved,
            request_id,
            payload,
            context,
            on_chunk=self._queue.put,
            raw_chunks=raw,
            traceparent=traceparent,
        )
        self._task: asyncio.Task[Served] | None = None
        self.streamed = False

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def __aexit__(self, *_: object) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> Served:
        try:
            return await self._call
        finally:
            # A client that went away no longer empties the queue; nobody waits for the end then either.
            if not self._queue.full():
                self._queue.put_nowait(None)

    async def parts(self) -> AsyncIterator[bytes]:
        """What the function yields, until its end."""
        assert self._task
        while not (self._task.done() and self._queue.empty()):
            getting = asyncio.ensure_future(self._queue.get())
            await asyncio.wait([getting, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                continue
            part = getting.result()
            if part is not None:
                self.streamed = True
                yield part

    @property
    def served(self) -> Served | None:
        """How it went, once it has ended well enough to have an outcome."""
        assert self._task
        done = self._task.done() and not self._task.cancelled() and not self._task.exception()
        return self._task.result() if done else None

    def failure(self) -> Failure | None:
        """What went wrong, the platform's trouble included: the status line is sent already."""
        assert self._task
        error = self._task.exception()
        if isinstance(error, FunctionFailed):
            return error.failure
        if isinstance(error, PlatformError):
            return Failure(error.code, error.message)
        if error is not None:
            raise error
        return self._task.result().outcome.failure


def event(kind: str, content_type: str, payload: bytes) -> bytes:
    """One message of the event stream: lengths, headers and payload, each part with its checksum."""
    named = ((":event-type", kind), (":content-type", content_type), (":message-type", "event"))
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in named
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))
