"""The web dashboard: three static files. What they show comes from the native routes, with the caller's key."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kasoku.gateway.platform import Platform

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/dashboard/style.css": ("style.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    # The page loads its own two files and speaks with its own gateway. What a function printed can start nothing.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes(_: Platform) -> list[Route]:
    """The routes. They tell nothing, so they need no key."""
    return [Route(path, _serve) for path in FILES]


async def _serve(request: Request) -> Response:
    name, media_type = FILES[request.url.path]
    return Response((Path(__file__).parent / name).read_bytes(), media_type=media_type, headers=_HEADERS)
