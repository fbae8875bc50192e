"""Who may talk to a gateway that listens on loopback: requests that name it as such, and no page of another site.

Without this check any web page could reach it, by a name that it re-points at 127.0.0.1, or by a form.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from kasoku.gateway.errors import error_response
from kasoku.node.errors import PlatformError

MAX_REMEMBERED = 256
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HostCheck:
    """ASGI middleware: 403 unless `Host` (and `Origin`, if sent) is one of the names of this gateway."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(h.lower() for h in (*LOOPBACK, *hosts))
        self._good: set[tuple[bytes | None, bytes | None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._problem(scope)):
            status, headers, body = error_response(PlatformError("AccessDeniedException", problem), "")
            await send(
                {"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]}
            )
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Raise PlatformError (403) for a request that is not for this gateway."""
        if problem := self._problem(scope):
            raise PlatformError("AccessDeniedException", problem)

    def _problem(self, scope: Scope) -> str | None:
        raw_host = raw_origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                raw_host = value
            elif name == b"origin":
                raw_origin = value
        if (raw_host, raw_origin) in self._good:
            return None
        host = None if raw_host is None else raw_host.decode("latin-1")
        origin = None if raw_origin is None else raw_origin.decode("latin-1")
        if host is None or _name(f"//{host}") not in self._hosts:
            return f"this gateway is not called {host!r}; start it with --allow-host to add a name"
        if origin is not None and _name(origin) not in self._hosts:
            return f"requests from pages of {origin!r} are not accepted"
        # Parsing costs more than all else here, and clients say the same thing each time.
        if len(self._good) < MAX_REMEMBERED:
            self._good.add((raw_host, raw_origin))
        return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
