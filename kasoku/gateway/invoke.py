"""Lambda's Invoke, as raw ASGI in front of the other routes: it is the path of every call."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from kasoku.controller.controller import Served
from kasoku.gateway.body import ClientGone, read_body
from kasoku.gateway.errors import Headers, error_response
from kasoku.gateway.names import parse_name
from kasoku.gateway.platform import Platform, new_request_id
from kasoku.node.errors import Failure, FunctionFailed, PlatformError
from kasoku.node.logs import LAMBDA_TAIL_BYTES
from kasoku.node.outcome import check_json
from kasoku.node.runner import MAX_PAYLOAD
from kasoku.registry.model import Resolved
from kasoku.tenants.model import OPERATOR

_PREFIX, _SUFFIX = "/2015-03-31/functions/", "/invocations"
MAX_CLIENT_CONTEXT = 3583
MAX_IDEMPOTENCY_KEY = 256
Response = tuple[int, Headers, bytes]


class InvokeRoute:
    """ASGI application: serves Invoke, hands everything else on. `answer` is the same without ASGI, for `protocol`."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_invoke(scope):
            return await self._app(scope, receive, send)
        try:
            payload = await read_body(scope, receive, MAX_PAYLOAD, "InvokeFunction")
            status, headers, body = await self.answer(scope, payload)
        except PlatformError as error:
            status, headers, body = error_response(error, new_request_id())
        except ClientGone:
            return None
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return None

    async def answer(self, scope: Scope, payload: bytes) -> Response:
        """Status, headers without the length, and body."""
        request_id = new_request_id()
        try:
            return await self._respond(scope, payload, request_id)
        except PlatformError as error:
            return error_response(error, request_id)

    async def _respond(self, scope: Scope, payload: bytes, request_id: str) -> Response:
        name = scope["path"][len(_PREFIX) : -len(_SUFFIX)]
        headers = dict(scope["headers"])
        query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
        parsed = parse_name(name, query.get("Qualifier", [None])[0], scope.get("tenant", OPERATOR))
        resolved = self._platform.catalog.resolve(*parsed)
        kind = headers.get(b"x-amz-invocation-type", b"RequestResponse").decode("latin-1")
        check_payload(payload)
        context = parse_client_context(headers.get(b"x-amz-client-context"))
        if kind == "DryRun":
            return 204, [(b"x-amzn-requestid", request_id.encode())], b""
        if kind == "Event":
            key = check_idempotency_key(headers.get(b"idempotency-key", b"").decode("latin-1"))
            id = await self._platform.calls.accept(
                resolved, parsed[1], payload, id=request_id, client_context=context, idempotency_key=key
            )
            return 202, [(b"x-amzn-requestid", id.encode())], b""
        if kind != "RequestResponse":
            known = "it is RequestResponse, Event or DryRun"
            raise PlatformError("InvalidParameterValueException", f"InvocationType {kind[:40]!r} is unknown; {known}")
        with_log = headers.get(b"x-amz-log-type") == b"Tail"
        try:
            served = await self._platform.invoke(
                resolved, request_id, payload, context, traceparent=traceparent(headers)
            )
        except FunctionFailed as error:
            answer = _headers(resolved, request_id, error.failure, error.log if with_log else None)
            return 200, answer, encode_failure(error.failure, request_id)
        outcome = served.outcome
        answer = _headers(resolved, request_id, outcome.failure, outcome.log if with_log else None)
        answer += [
            (b"server-timing", _server_timing(served)),
            (b"x-kasoku-instance", served.instance_id.encode()),
            (b"x-kasoku-cold", b"1" if served.cold else b"0"),
        ]
        if served.accelerator:
            answer.append((b"x-kasoku-accelerator", served.accelerator.encode()))
        return 200, answer, encode_failure(outcome.failure, request_id) if outcome.failure else outcome.payload


def traceparent(headers: Mapping[bytes, bytes]) -> str | None:
    """W3C trace context, if the caller has one."""
    found = headers.get(b"traceparent")
    return found.decode("latin-1") if found else None


def is_invoke(scope: Scope) -> bool:
    """Whether a request is an Invoke."""
    path: str = scope["path"]
    return path.startswith(_PREFIX) and path.endswith(_SUFFIX) and bool(scope["method"] == "POST")


def check_payload(payload: bytes) -> bytes:
    """The payload, if it is JSON or nothing. Raises PlatformError (400)."""
    if payload:
        try:
            check_json(payload)
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            raise PlatformError("InvalidRequestContentException", message) from None
    return payload


def check_idempotency_key(key: str | None) -> str | None:
    """A client's name for a call that must be accepted once only. Raises PlatformError (400)."""
    if not key:
        return None
    if len(key) > MAX_IDEMPOTENCY_KEY or not key.isascii() or not key.isprintable():
        message = f"an Idempotency-Key is at most {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
        raise PlatformError("InvalidParameterValueException", message)
    return key


def encode_failure(failure: Failure, request_id: str) -> bytes:
    """A function's failure as Lambda's clients read it."""
    return json.dumps({**failure.to_json(), "requestId": request_id}).encode()


def _headers(resolved: Resolved, request_id: str, failure: Failure | None, log: bytes | None) -> Headers:
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-requestid", request_id.encode()),
        (b"x-amz-executed-version", resolved.executed_version.encode()),
    ]
    if failure:
        headers.append((b"x-amz-function-error", b"Unhandled"))
    if log is not None:
        headers.append((b"x-amz-log-result", base64.b64encode(log[-LAMBDA_TAIL_BYTES:])))
    return headers


def _server_timing(served: Served) -> bytes:
    return ", ".join(f"{name.removesuffix('_ms')};dur={value:.3f}" for name, value in served.timings.items()).encode()


def parse_client_context(header: bytes | None) -> dict[str, Any] | None:
    """What a client sends for `context.client_context`. Raises PlatformError (400)."""
    if not header:
        return None
    try:
        if len(header) > MAX_CLIENT_CONTEXT:
            raise ValueError(f"it is longer than {MAX_CLIENT_CONTEXT} bytes")
        context = json.loads(base64.b64decode(header, validate=True))
        if not isinstance(context, dict):
            raise ValueError("it is no JSON object")
        return context
    except (ValueError, binascii.Error, RecursionError) as error:
        raise PlatformError("InvalidRequestContentException", f"the client context cannot be read: {error}") from None
