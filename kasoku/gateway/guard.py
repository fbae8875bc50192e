"""ASGI middleware in front of all routes: requests that must prove who sends them do so here, or end here."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kasoku.gateway import dashboard
from kasoku.gateway.access import Access
from kasoku.gateway.body import ClientGone, read_body
from kasoku.gateway.deploy import MAX_UPLOAD
from kasoku.gateway.errors import error_response
from kasoku.node.errors import PlatformError
from kasoku.node.runner import MAX_PAYLOAD

OPEN = frozenset({"/v1/health", *dashboard.FILES})
"""What tells nothing and is asked by those that have no key, such as a supervisor."""


class Guard:
    """See the module. `scope["tenant"]` is whose key it was."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._access.demanded or scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        try:
            body = None
            if self._access.needs_body(scope):
                limit = MAX_PAYLOAD if scope["path"].endswith("/invocations") else MAX_UPLOAD
                body = await read_body(scope, receive, limit, "InvokeFunction" if limit == MAX_PAYLOAD else "Lambda")
            scope["tenant"] = self._access.check(scope, body or b"")
        except PlatformError as error:
            status, headers, text = error_response(error, "")
            headers.append((b"content-length", str(len(text)).encode()))
            # What is left of the request is not read: the connection ends with the answer.
            await send(
                {"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]}
            )
            await send({"type": "http.response.body", "body": text})
            return None
        except ClientGone:
            return None
        return await self._app(scope, receive if body is None else _replay(body, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what comes after it (that the client has gone)."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
