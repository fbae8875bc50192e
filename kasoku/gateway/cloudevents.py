"""CloudEvents 1.0 over HTTP as a source of asynchronous calls: binary, structured and batched mode.

The function gets the event in CloudEvents' JSON format. Source and id together name an event (specification, 3.1): one
that comes again is the same call for as long as its result is kept.
"""

import base64
import binascii
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.gateway.awslambda.request import invalid
from kasoku.gateway.body import ClientGone, read_body
from kasoku.gateway.calls import MAX_EVENT
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform, new_request_id
from kasoku.node.errors import PlatformError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_BATCH = 100
_PREFIX = "ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
_JSON = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json", re.IGNORECASE)


def routes(platform: Platform) -> list[Route]:
    """The route, bound to a platform."""
    source = _Source(platform)
    return [Route("/v1/functions/{name}:event", source.take, methods=["POST"])]


class _Source:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def take(self, request: Request) -> Response:
        name, qualifier = parse_name(
            request.path_params["name"], request.query_params.get("qualifier"), tenant_of(request)
        )
        resolved = self._platform.catalog.resolve(name, qualifier)
        try:
            body = await read_body(request.scope, request.receive, MAX_EVENT, "CloudEvents")
        except ClientGone:
            raise PlatformError("InvalidRequestContentException", "the client went away") from None
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == BATCH:
            events = _load(body)
            if not isinstance(events, list) or not 1 <= len(events) <= MAX_BATCH:
                raise invalid(f"a batch is a list of 1 to {MAX_BATCH} events")
        elif media_type == STRUCTURED:
            events = [_load(body)]
        else:
            events = [binary(request.headers.items(), media_type, body)]
        checked = [check(event) for event in events]  # all of them, before the first is accepted
        ids = [
            await self._platform.calls.accept(
                resolved,
                qualifier,
                json.dumps(event).encode(),
                id=new_request_id(),
                idempotency_key=key_of(event),
            )
            for event in checked
        ]
        return JSONResponse({"ids": ids}, 202)


def binary(headers: list[tuple[str, str]], media_type: str, body: bytes) -> dict[str, Any]:
    """The event whose attributes are headers and whose data is the body. Raises PlatformError (400)."""
    try:
        event: dict[str, Any] = {
            name[len(_PREFIX) :].lower(): unquote(value, errors="strict")
            for name, value in headers
            if name.lower().startswith(_PREFIX)
        }
    except UnicodeDecodeError:
        raise invalid(f"a header that begins with {_PREFIX} is no UTF-8, percent-encoded") from None
    if not event:
        raise invalid(f"a CloudEvent has headers that begin with {_PREFIX}, or comes as {STRUCTURED} or {BATCH}")
    if media_type:
        event["datacontenttype"] = media_type
    if not body:
        return event
    if _JSON.fullmatch(media_type):
        return {**event, "data": _load(body)}
    if media_type.startswith("text/"):
        try:
            return {**event, "data": body.decode()}
        except UnicodeDecodeError:
            raise invalid(f"the data is no UTF-8, and {media_type} says that it is text") from None
    return {**event, "data_base64": base64.b64encode(body).decode()}


def check(event: Any) -> dict[str, Any]:
    """An event as the specification has it. Raises PlatformError (400)."""
    if not isinstance(event, dict):
        raise invalid("a CloudEvent is a JSON object")
    for name in _REQUIRED:
        value = event.get(name)
        if not isinstance(value, str) or not value:
            raise invalid(f"the CloudEvent's {name} must be a string that is not empty")
    if event["specversion"] != "1.0":
        raise invalid(f"CloudEvents {event['specversion'][:20]!r} are not known; specversion must be '1.0'")
    for name, value in event.items():
        if name in ("data", "data_base64"):
            continue
        if not _ATTRIBUTE.fullmatch(name):
            raise invalid(f"{name[:80]!r} is no name of a CloudEvent's attribute: lower-case letters and digits")
        if not isinstance(value, str | bool | int) and value is not None:
            raise invalid(f"the CloudEvent's {name} must be a string, a whole number or true or false")
    if "data_base64" in event:
        if "data" in event:
            raise invalid("a CloudEvent has data or data_base64, not both")
        try:
            base64.b64decode(event["data_base64"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise invalid("the CloudEvent's data_base64 is not base64") from None
    return event


def key_of(event: dict[str, Any]) -> str:
    """The idempotency key of an event."""
    return "ce-" + hashlib.sha256(f"{event['source']}\0{event['id']}".encode()).hexdigest()


def _load(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: {error}"
        raise PlatformError("InvalidRequestContentException", message) from None
