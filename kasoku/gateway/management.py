"""Native routes for what belongs to a function without being run: versions, aliases, secrets."""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.gateway.awslambda.request import read_object
from kasoku.gateway.awslambda.versions import check_alias, parse_target, parse_weights
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.native import describe_record
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError
from kasoku.registry.model import Record
from kasoku.sdk.errors import OptionError
from kasoku.sdk.options import check_variable
from kasoku.tenants.model import qualify, reaches, shown

MAX_SECRET = 16 << 10


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Management(platform)
    return [
        Route("/v1/functions/{name}/versions", api.publish, methods=["POST"]),
        Route("/v1/functions/{name}/aliases/{alias}", api.put_alias, methods=["PUT"]),
        Route("/v1/functions/{name}/aliases/{alias}", api.delete_alias, methods=["DELETE"]),
        Route("/v1/secrets", api.list_secrets),
        Route("/v1/secrets/{name}", api.put_secret, methods=["PUT"]),
        Route("/v1/secrets/{name}", api.delete_secret, methods=["DELETE"]),
    ]


class _Management:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def publish(self, request: Request) -> Response:
        members = await read_object(request, "PublishVersion")
        record = self._record(request)
        description = members.take("description", str, record.description)
        members.done()
        number = self._platform.registry.publish(record.name, description)
        return JSONResponse({**self._changed(request, record.name), "number": number}, 201)

    async def put_alias(self, request: Request) -> Response:
        members = await read_object(request, "PutAlias")
        record = self._record(request)
        alias = check_alias(request.path_params["alias"])
        target = parse_target(record, members.required("version", str))
        weights = parse_weights(record, target, members.take("weights", dict, {}))
        description = members.take("description", str, "")
        members.done()
        self._platform.registry.put_alias(record.name, alias, target, weights, description)
        return JSONResponse(self._changed(request, record.name))

    async def delete_alias(self, request: Request) -> Response:
        record = self._record(request)
        alias = request.path_params["alias"]
        if alias not in record.aliases:
            raise PlatformError("ResourceNotFoundException", f"{record.latest.local_name} has no alias {alias!r}")
        self._platform.registry.remove_alias(record.name, alias)
        self._changed(request, record.name)
        return Response(status_code=204)

    async def list_secrets(self, request: Request) -> Response:
        tenant = tenant_of(request)
        listed = [(name, at) for name, at in self._platform.secrets.list() if reaches(tenant, name)]
        return JSONResponse([{"name": shown(tenant, name), "updated_at": at} for name, at in listed])

    async def put_secret(self, request: Request) -> Response:
        members = await read_object(request, "PutSecret")
        value = members.required("value", str)
        members.done()
        try:
            name = check_variable("name", request.path_params["name"])
        except OptionError as error:
            raise PlatformError("InvalidParameterValueException", str(error)) from None
        if "\0" in value or len(value.encode()) > MAX_SECRET:
            message = f"a secret is a string without NUL of at most {MAX_SECRET} bytes"
            raise PlatformError("InvalidParameterValueException", message)
        self._platform.secrets.set(qualify(tenant_of(request), name), value)
        return JSONResponse({"name": name, "updated_at": time.time()})

    async def delete_secret(self, request: Request) -> Response:
        name, tenant = request.path_params["name"], tenant_of(request)
        whole = qualify(tenant, name)
        records = self._platform.catalog.records(tenant)
        users = [r.latest.local_name for r in records if _uses(r, whole)]
        if users:
            raise PlatformError("ResourceConflictException", f"secret {name!r} is in use by {', '.join(users)}")
        if not self._platform.secrets.remove(whole):
            raise PlatformError("ResourceNotFoundException", f"there is no secret {name!r}")
        return Response(status_code=204)

    def _record(self, request: Request) -> Record:
        return self._platform.catalog.record(parse_name(request.path_params["name"], None, tenant_of(request))[0])

    def _changed(self, request: Request, name: str) -> dict[str, object]:
        record = self._platform.changed(name)
        assert record
        return describe_record(record, tenant_of(request))


def _uses(record: Record, secret: str) -> bool:
    return any(qualify(record.latest.tenant, name) == secret for name in record.latest.options.secrets)
