"""CreateFunction, GetFunction, ListFunctions, UpdateFunctionCode, UpdateFunctionConfiguration, DeleteFunction."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.gateway.awslambda import shapes
from kasoku.gateway.awslambda.request import IGNORED, Members, invalid, page, read_object
from kasoku.gateway.catalog import not_found
from kasoku.gateway.deploy import Code
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError
from kasoku.registry.model import LATEST, Record
from kasoku.tenants.model import local

BASE = "/2015-03-31/functions"
MAX_DESCRIPTION = 256


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Functions(platform)
    return [
        Route(BASE, api.create, methods=["POST"]),
        Route(f"{BASE}/", api.create, methods=["POST"]),
        Route(BASE, api.list),
        Route(f"{BASE}/", api.list),
        Route(BASE + "/{name}", api.get),
        Route(BASE + "/{name}", api.delete, methods=["DELETE"]),
        Route(BASE + "/{name}/configuration", api.get_configuration),
        Route(BASE + "/{name}/configuration", api.update_configuration, methods=["PUT"]),
        Route(BASE + "/{name}/code", api.update_code, methods=["PUT"]),
    ]


class _Functions:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def create(self, request: Request) -> Response:
        members = await read_object(request, "CreateFunction")
        name, qualifier = parse_name(members.required("FunctionName", str), None, tenant_of(request))
        if qualifier != LATEST:
            raise invalid("FunctionName must be without a version")
        if self._platform.catalog.find(name):
            raise PlatformError("ResourceConflictException", f"Function already exist: {local(name)}")
        code = _code(members.object("Code"))
        options = shapes.parse_configuration(members, None)
        handler, description = members.required("Handler", str), _description(members)
        publish = members.take("Publish", bool, False)
        members.done(IGNORED)
        record = await self._platform.deploy(name, handler, options, code, description=description or "")
        return JSONResponse(self._published(record, publish), 201)

    async def list(self, request: Request) -> Response:
        listed: list[dict[str, Any]] = []
        everything = request.query_params.get("FunctionVersion") == "ALL"
        tenant = tenant_of(request)
        for record in self._platform.catalog.records(tenant):
            if record.latest.tenant != tenant:
                continue  # Lambda's clients know no tenants: for the operator, equal names would stand side by side
            listed.append(shapes.latest(record))
            if everything:
                listed += [shapes.numbered(record, number) for number in record.published]
        chosen, marker = page(request, listed)
        return JSONResponse({"Functions": chosen, **({"NextMarker": marker} if marker else {})})

    async def get(self, request: Request) -> Response:
        record, shape = self._described(request)
        answer: dict[str, Any] = {"Configuration": shape, "Code": {"RepositoryType": "Kasoku"}, "Tags": {}}
        if record.concurrency is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": record.concurrency}
        return JSONResponse(answer)

    async def get_configuration(self, request: Request) -> Response:
        return JSONResponse(self._described(request)[1])

    async def update_configuration(self, request: Request) -> Response:
        members = await read_object(request, "UpdateFunctionConfiguration")
        record = self._latest(request, members)
        before = record.latest
        options = shapes.parse_configuration(members, before.options)
        handler, description = members.take("Handler", str, before.handler), _description(members)
        members.done(IGNORED)
        record = await self._platform.configure(record.name, handler, options, description=description)
        return JSONResponse(shapes.latest(record))

    async def update_code(self, request: Request) -> Response:
        members = await read_object(request, "UpdateFunctionCode")
        record = self._latest(request, members)
        code = _code(members)
        publish, dry = members.take("Publish", bool, False), members.take("DryRun", bool, False)
        members.take("Architectures", list)
        members.done(IGNORED)
        if dry:
            await self._platform.check_code(record.name, code)
            return JSONResponse(shapes.latest(record))
        before = record.latest
        record = await self._platform.deploy(record.name, before.handler, before.options.to_json(), code)
        return JSONResponse(self._published(record, publish))

    async def delete(self, request: Request) -> Response:
        name, qualifier = parse_name(
            request.path_params["name"], request.query_params.get("Qualifier"), tenant_of(request)
        )
        record = self._platform.catalog.record(name)
        if qualifier == LATEST:
            if request.query_params.get("Qualifier"):
                raise invalid("$LATEST version cannot be deleted without deleting the function.")
            self._platform.remove(name)
            return Response(status_code=204)
        if not qualifier.isdecimal() or int(qualifier) not in record.published:
            raise not_found(f"{name}:{qualifier}")
        if users := list(record.users_of(int(qualifier))):
            message = f"version {qualifier} is in use by the alias {users[0]!r}"
            raise PlatformError("ResourceConflictException", message)
        self._platform.registry.unpublish(name, int(qualifier))
        self._platform.changed(name)
        return Response(status_code=204)

    def _published(self, record: Record, publish: bool) -> dict[str, Any]:
        if not publish:
            return shapes.latest(record)
        number = self._platform.registry.publish(record.name, record.description)
        changed = self._platform.changed(record.name)
        assert changed
        return shapes.numbered(changed, number)

    def _latest(self, request: Request, members: Members) -> Record:
        name, qualifier = parse_name(request.path_params["name"], None, tenant_of(request))
        if qualifier != LATEST:
            raise invalid("only $LATEST can be updated")
        record = self._platform.catalog.record(name)
        wanted = members.take("RevisionId", str)
        if wanted and wanted != shapes.revision(record.latest, record.description):
            raise stale_revision()
        return record

    def _described(self, request: Request) -> tuple[Record, dict[str, Any]]:
        name, qualifier = parse_name(
            request.path_params["name"], request.query_params.get("Qualifier"), tenant_of(request)
        )
        record = self._platform.catalog.record(name)
        label = record.aliases[qualifier].target if qualifier in record.aliases else qualifier
        if label == LATEST:
            return record, shapes.latest(record)
        if not label.isdecimal() or int(label) not in record.published:
            raise not_found(f"{name}:{qualifier}")
        return record, shapes.numbered(record, int(label))


def stale_revision() -> PlatformError:
    """Somebody else was quicker."""
    message = "The RevisionId provided does not match the latest RevisionId. Call the GetFunction API to retrieve it."
    return PlatformError("PreconditionFailedException", message)


def _description(members: Members) -> str | None:
    description: str | None = members.take("Description", str)
    if description is not None and len(description) > MAX_DESCRIPTION:
        raise invalid(f"Description must be at most {MAX_DESCRIPTION} characters")
    return description


def _code(members: Members | None) -> Code:
    text = members.take("ZipFile", str) if members else None
    if not text:
        raise invalid("the code must be given as ZipFile; other sources are not supported")
    return Code.from_base64(text, "ZipFile")
