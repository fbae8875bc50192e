"""Lambda's Invoke, as raw ASGI in front of the other routes: it is the path of every call."""

import base64
import binascii
import json
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
from kasoku.node.outcome import Invocation, check_json
from kasoku.node.runner import MAX_PAYLOAD

_PREFIX, _SUFFIX = "/2015-03-31/functions/", "/invocations"
MAX_CLIENT_CONTEXT = 3583
Response = tuple[int, Headers, bytes]


class InvokeRoute:
    """ASGI application: serves Invoke, hands everything else on."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path: str = scope["path"]
        if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX) and scope["method"] == "POST"):
            return await self._app(scope, receive, send)
        request_id = new_request_id()
        try:
            status, headers, body = await self._respond(scope, receive, path[len(_PREFIX) : -len(_SUFFIX)], request_id)
        except PlatformError as error:
            status, headers, body = error_response(error, request_id)
        except ClientGone:
            return None
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return None

    async def _respond(self, scope: Scope, receive: Receive, name: str, request_id: str) -> Response:
        headers = dict(scope["headers"])
        query = parse_qs(scope["query_string"].decode("latin-1"))
        payload = await read_body(scope, receive, MAX_PAYLOAD, "InvokeFunction")
        function = self._platform.function(*parse_name(name, query.get("Qualifier", [None])[0]))
        kind = headers.get(b"x-amz-invocation-type", b"RequestResponse").decode("latin-1")
        invocation = Invocation(
            request_id, check_payload(payload), _client_context(headers.get(b"x-amz-client-context"))
        )
        if kind == "DryRun":
            return 204, [(b"x-amzn-requestid", request_id.encode())], b""
        if kind != "RequestResponse":
            known = "RequestResponse and DryRun are supported"
            raise PlatformError(
                "InvalidParameterValueException", f"InvocationType {kind[:40]!r} is not served; {known}"
            )
        with_log = headers.get(b"x-amz-log-type") == b"Tail"
        try:
            served = await self._platform.controller.invoke(function, invocation)
        except FunctionFailed as error:
            answer = _headers(request_id, error.failure, error.log if with_log else None)
            return 200, answer, encode_failure(error.failure, request_id)
        outcome = served.outcome
        answer = _headers(request_id, outcome.failure, outcome.log if with_log else None)
        answer += [
            (b"server-timing", _server_timing(served)),
            (b"x-kasoku-instance", served.instance_id.encode()),
            (b"x-kasoku-cold", b"1" if served.cold else b"0"),
        ]
        if served.accelerator:
            answer.append((b"x-kasoku-accelerator", served.accelerator.encode()))
        return 200, answer, encode_failure(outcome.failure, request_id) if outcome.failure else outcome.payload


def check_payload(payload: bytes) -> bytes:
    """The payload, if it is JSON or nothing. Raises PlatformError (400)."""
    if payload:
        try:
            check_json(payload)
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            raise PlatformError("InvalidRequestContentException", message) from None
    return payload


def encode_failure(failure: Failure, request_id: str) -> bytes:
    """A function's failure as Lambda's clients read it."""
    return json.dumps({**failure.to_json(), "requestId": request_id}).encode()


def _headers(request_id: str, failure: Failure | None, log: bytes | None) -> Headers:
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-requestid", request_id.encode()),
        (b"x-amz-executed-version", b"$LATEST"),
    ]
    if failure:
        headers.append((b"x-amz-function-error", b"Unhandled"))
    if log is not None:
        headers.append((b"x-amz-log-result", base64.b64encode(log[-LAMBDA_TAIL_BYTES:])))
    return headers


def _server_timing(served: Served) -> bytes:
    return ", ".join(f"{name.removesuffix('_ms')};dur={value:.3f}" for name, value in served.timings.items()).encode()


def _client_context(header: bytes | None) -> dict[str, Any] | None:
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
