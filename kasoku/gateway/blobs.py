"""Routes of blobs, and how a call names those that it takes along."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kasoku.blobs.store import PART, BlobStore, check_id
from kasoku.gateway.body import DISCARD_LIMIT
from kasoku.gateway.names import tenant_of
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError

MEDIA_TYPE = "application/octet-stream"


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Blobs(platform)
    return [
        Route("/v1/blobs", api.list),
        Route("/v1/blobs/{id}", api.get),
        Route("/v1/blobs/{id}", api.put, methods=["PUT"]),
        Route("/v1/blobs/{id}", api.remove, methods=["DELETE"]),
    ]


class _Blobs:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @property
    def _store(self) -> BlobStore:
        return self._platform.blobs

    async def list(self, request: Request) -> Response:
        found = self._store.of(tenant_of(request))
        return JSONResponse([{"id": id, "bytes": entry.size} for id, entry in sorted(found.items())])

    async def get(self, request: Request) -> Response:
        tenant, id = tenant_of(request), request.path_params["id"]
        entry = self._store.get(tenant, id)
        headers = {"content-length": str(entry.size), "x-content-type-options": "nosniff"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA_TYPE)
        # Opened here and now: whoever reads slowly gets all of it, though it may be forgotten meanwhile.
        return StreamingResponse(_parts(self._store.path(tenant, id)), headers=headers, media_type=MEDIA_TYPE)

    async def put(self, request: Request) -> Response:
        id, tenant = check_id(request.path_params["id"]), tenant_of(request)
        writer = self._store.writer(tenant)
        seen = 0
        refused: PlatformError | None = None
        try:
            async for part in request.stream():
                seen += len(part)
                if refused is None:
                    try:
                        await writer.write(part)
                    except PlatformError as error:
                        refused = error
                elif seen > DISCARD_LIMIT:
                    break
            if refused:
                raise refused
            await writer.finish(id)
        except ClientDisconnect:
            raise PlatformError("InvalidRequestContentException", "the client went away") from None
        finally:
            writer.abort()
        return JSONResponse({"id": id, "bytes": self._store.get(tenant, id).size})

    async def remove(self, request: Request) -> Response:
        self._store.remove(tenant_of(request), request.path_params["id"])
        return Response(status_code=204)


def _parts(path: Path) -> AsyncIterator[bytes]:
    file = path.open("rb")

    async def read() -> AsyncIterator[bytes]:
        with file:
            while data := await asyncio.to_thread(file.read, PART):
                yield data

    return read()


def parse_blobs(header: str | None) -> list[str]:
    """The blobs that a call takes along, from its header: ids with commas between them. Raises PlatformError (400)."""
    return [check_id(id.strip()) for id in header.split(",")] if header else []
