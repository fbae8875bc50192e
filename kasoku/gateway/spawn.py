"""`POST /v1/functions/NAME:spawn`: a call is kept on disk, and its id told. Without ASGI, as Invoke is (`protocol`)."""

import json
from urllib.parse import parse_qs

from starlette.types import Scope

from kasoku.gateway.awslambda.request import invalid
from kasoku.gateway.errors import error_response
from kasoku.gateway.invoke import Response, check_idempotency_key, check_payload
from kasoku.gateway.names import parse_name
from kasoku.gateway.platform import Platform, new_request_id
from kasoku.node.errors import PlatformError
from kasoku.tenants.model import OPERATOR

_PREFIX, _SUFFIX = "/v1/functions/", ":spawn"
MAX_DELAY_SECONDS = 366 * 86400.0


class SpawnRoute:
    """See the module."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def answer(self, scope: Scope, payload: bytes) -> Response:
        """Status, headers without the length, and body."""
        request_id = new_request_id()
        try:
            id = await self._keep(scope, payload, request_id)
        except PlatformError as error:
            return error_response(error, request_id)
        return 202, [(b"content-type", b"application/json")], json.dumps({"id": id}).encode()

    async def _keep(self, scope: Scope, payload: bytes, request_id: str) -> str:
        query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
        written = scope["path"][len(_PREFIX) : -len(_SUFFIX)]
        name, qualifier = parse_name(written, query.get("qualifier", [None])[0], scope.get("tenant", OPERATOR))
        resolved = self._platform.catalog.resolve(name, qualifier)
        check_payload(payload)
        key = next((value for header, value in scope["headers"] if header == b"idempotency-key"), b"")
        return await self._platform.calls.accept(
            resolved,
            qualifier,
            payload,
            id=request_id,
            idempotency_key=check_idempotency_key(key.decode("latin-1")),
            delay_s=seconds(query.get("delay", ["0"])[0], "delay", MAX_DELAY_SECONDS),
        )


def is_spawn(scope: Scope) -> bool:
    """Whether a request is one of these."""
    path: str = scope["path"]
    return path.endswith(_SUFFIX) and path.startswith(_PREFIX) and bool(scope["method"] == "POST")


def seconds(text: str, name: str, most: float) -> float:
    """A number of seconds that a client wrote. Raises PlatformError (400)."""
    try:
        value = float(text)
    except ValueError:
        raise invalid(f"{name} must be a number of seconds") from None
    if not 0 <= value <= most:
        raise invalid(f"{name} must be between 0 and {most:g} seconds")
    return value
