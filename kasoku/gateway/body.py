"""Reading request bodies within a limit."""

from starlette.types import Receive, Scope

from kasoku.node.errors import PlatformError

DISCARD_LIMIT = 64 << 20
"""Up to so many bytes of a refused body are read and dropped, so that the client gets to read the refusal."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(scope: Scope, receive: Receive, limit: int, what: str) -> bytes:
    """The whole body. Raises PlatformError (413) if it is longer than `limit`, ClientGone."""
    announced = _announced(scope)
    if announced > DISCARD_LIMIT and announced > limit:
        raise _too_large(limit, what)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_rest(receive, body, limit)
    if len(body) > limit:
        raise _too_large(limit, what)
    return body


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    parts, size, more = [first], len(first), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > max(limit, DISCARD_LIMIT):
            break
        more = message.get("more_body", False)
    return b"".join(parts) if size <= limit else bytes(limit + 1)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _too_large(limit: int, what: str) -> PlatformError:
    return PlatformError(
        "RequestTooLargeException", f"Request must be smaller than {limit} bytes for the {what} operation"
    )
