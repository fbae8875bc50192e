"""The OpenAPI document of the native routes, at `/v1/openapi.json`. A test holds it together with the routes."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku import __version__
from kasoku.gateway.platform import Platform
from kasoku.sdk.options import FunctionOptions

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_ANY: Schema = {}
_OBJECT: Schema = {"type": "object"}
_LIST: Schema = {"type": "array", "items": _OBJECT}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_DEPLOYMENT = _object(
    {"handler": _TEXT, "code": _object({"zip": {"type": "string", "contentEncoding": "base64"}})},
    options={"type": "object", "properties": dict.fromkeys(FunctionOptions._fields, _ANY)},
)
_SCHEDULE = _object({"function": _TEXT, "schedule": _TEXT}, qualifier=_TEXT, timezone=_TEXT, payload=_ANY)
_ALIAS = _object({"version": _TEXT}, weights={"type": "object", "additionalProperties": _NUMBER}, description=_TEXT)
_BINARY: Schema = {"type": "string", "format": "binary"}
_JSON = "application/json"
_BYTES = "application/octet-stream"

ROUTES: dict[tuple[str, str], tuple[str, Schema | None, list[str], int, str]] = {
    ("GET", "/v1/health"): ("Whether the gateway serves.", None, [], 200, _JSON),
    ("GET", "/v1/openapi.json"): ("This document.", None, [], 200, _JSON),
    ("GET", "/v1/functions"): ("The functions.", None, [], 200, _JSON),
    ("GET", "/v1/functions/{name}"): ("One function.", None, ["qualifier"], 200, _JSON),
    ("PUT", "/v1/functions/{name}"): ("Deploy a function.", _DEPLOYMENT, [], 200, _JSON),
    ("DELETE", "/v1/functions/{name}"): ("Remove a function.", None, [], 204, ""),
    ("POST", "/v1/functions/{name}:invoke"): ("Call a function and wait.", _ANY, ["qualifier"], 200, _JSON),
    ("POST", "/v1/functions/{name}:spawn"): (
        "Call a function some time soon, at least once.",
        _ANY,
        ["qualifier", "delay"],
        202,
        _JSON,
    ),
    ("POST", "/v1/functions/{name}:event"): (
        "Call a function some time soon with a CloudEvent, or a batch of them.",
        _ANY,
        ["qualifier"],
        202,
        _JSON,
    ),
    ("POST", "/v1/functions/{name}:stream"): (
        "Call a generator function; a line for each item.",
        _ANY,
        ["qualifier"],
        200,
        "application/x-ndjson",
    ),
    ("GET", "/v1/functions/{name}/logs"): ("The end of a function's log.", None, ["bytes", "after"], 200, "text/plain"),
    ("POST", "/v1/functions/{name}/versions"): ("Publish a version.", _object({}, description=_TEXT), [], 201, _JSON),
    ("PUT", "/v1/functions/{name}/aliases/{alias}"): ("Make or move an alias.", _ALIAS, [], 200, _JSON),
    ("DELETE", "/v1/functions/{name}/aliases/{alias}"): ("Remove an alias.", None, [], 204, ""),
    ("GET", "/v1/secrets"): ("The names of the secrets.", None, [], 200, _JSON),
    ("PUT", "/v1/secrets/{name}"): ("Set a secret.", _object({"value": _TEXT}), [], 200, _JSON),
    ("DELETE", "/v1/secrets/{name}"): ("Remove a secret.", None, [], 204, ""),
    ("GET", "/v1/calls"): ("Asynchronous calls, latest first.", None, ["function", "state", "limit"], 200, _JSON),
    ("GET", "/v1/calls/{id}"): ("One call, with its result.", None, ["wait"], 200, _JSON),
    ("DELETE", "/v1/calls/{id}"): ("Cancel a call.", None, [], 200, _JSON),
    ("GET", "/v1/schedules"): ("The schedules.", None, [], 200, _JSON),
    ("PUT", "/v1/schedules/{name}"): ("Make or replace a schedule.", _SCHEDULE, [], 200, _JSON),
    ("DELETE", "/v1/schedules/{name}"): ("Remove a schedule.", None, [], 204, ""),
    ("GET", "/v1/blobs"): ("The blobs: data that payloads are too small for.", None, [], 200, _JSON),
    ("GET", "/v1/blobs/{id}"): ("The bytes of a blob.", None, [], 200, _BYTES),
    ("PUT", "/v1/blobs/{id}"): ("Send a blob, named by its SHA-256.", _BINARY, [], 200, _JSON),
    ("DELETE", "/v1/blobs/{id}"): ("Forget a blob.", None, [], 204, ""),
    ("GET", "/v1/instances"): ("The instances.", None, [], 200, _JSON),
    ("GET", "/v1/devices"): ("The devices and who holds them.", None, [], 200, _JSON),
    ("GET", "/v1/leases"): ("Who holds which device, and who waits.", None, [], 200, _JSON),
    ("GET", "/v1/status"): ("All that a dashboard shows.", None, [], 200, _JSON),
    ("GET", "/v1/events"): ("What was decided, and why.", None, ["after", "wait"], 200, _JSON),
    ("GET", "/v1/traces"): ("Spans of traced invocations, as OTLP has them.", None, ["trace"], 200, _JSON),
    ("GET", "/v1/usage"): ("What functions used.", None, ["since"], 200, _JSON),
}
"""By method and path: what it does, the body's schema, parameters of the query, the good status and its media type."""


def document() -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), (summary, body, query, status, media_type) in ROUTES.items():
        named = [part.strip("{}") for part in _placeholders(path)]
        parameters = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in named]
        parameters += [{"name": n, "in": "query", "schema": _TEXT} for n in query]
        good: dict[str, Any] = {"description": "Done."}
        if media_type:
            good["content"] = {media_type: {"schema": _ANY}}
        operation: dict[str, Any] = {
            "summary": summary,
            "parameters": parameters,
            "responses": {str(status): good, "4XX": {"$ref": "#/components/responses/Error"}},
        }
        if body is not None:
            operation["requestBody"] = {"content": {_BYTES if body is _BINARY else _JSON: {"schema": body}}}
        if path == "/v1/functions/{name}:spawn":
            operation["parameters"].append({"name": "Idempotency-Key", "in": "header", "schema": _TEXT})
        paths.setdefault(path, {})[method.lower()] = operation
    error = _object({"Type": {"enum": ["User", "Service"]}, "message": _TEXT})
    headers = {"x-amzn-ErrorType": {"schema": _TEXT, "description": "Lambda's name of the error."}}
    response = {"description": "What is wrong.", "headers": headers, "content": {_JSON: {"schema": error}}}
    bearer = {"type": "http", "scheme": "bearer", "description": "ID.SECRET of a key"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kasoku", "version": __version__},
        "paths": paths,
        "security": [{}, {"key": []}],
        "components": {"securitySchemes": {"key": bearer}, "responses": {"Error": response}},
    }


def _placeholders(path: str) -> list[str]:
    return [part[: part.index("}") + 1] for part in path.split("/") if part.startswith("{")]


def routes(_: Platform) -> list[Route]:
    """The route."""
    return [Route("/v1/openapi.json", _serve)]


async def _serve(_: Request) -> Response:
    return JSONResponse(document())
