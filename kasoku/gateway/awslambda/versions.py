"""PublishVersion, ListVersionsByFunction, and the aliases."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.gateway.awslambda import shapes
from kasoku.gateway.awslambda.functions import BASE, stale_revision
from kasoku.gateway.awslambda.request import Members, invalid, page, read_object
from kasoku.gateway.catalog import not_found
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError
from kasoku.registry.model import LATEST, Alias, Record

_ALIAS = re.compile(r"(?!\d+$)[A-Za-z0-9_-]{1,128}")


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Versions(platform)
    return [
        Route(BASE + "/{name}/versions", api.publish, methods=["POST"]),
        Route(BASE + "/{name}/versions", api.list),
        Route(BASE + "/{name}/aliases", api.create_alias, methods=["POST"]),
        Route(BASE + "/{name}/aliases", api.list_aliases),
        Route(BASE + "/{name}/aliases/{alias}", api.get_alias),
        Route(BASE + "/{name}/aliases/{alias}", api.update_alias, methods=["PUT"]),
        Route(BASE + "/{name}/aliases/{alias}", api.delete_alias, methods=["DELETE"]),
    ]


class _Versions:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def publish(self, request: Request) -> Response:
        members = await read_object(request, "PublishVersion")
        record = self._record(request)
        description = members.take("Description", str, record.description)
        sha256, revision = members.take("CodeSha256", str), members.take("RevisionId", str)
        members.done()
        if sha256 and sha256 != record.latest.code_sha256:
            raise invalid(f"CodeSHA256 ({sha256[:64]}) is different from current CodeSHA256 in $LATEST")
        if revision and revision != shapes.revision(record.latest, record.description):
            raise stale_revision()
        number = self._platform.registry.publish(record.name, description)
        return JSONResponse(shapes.numbered(self._changed(record.name), number), 201)

    async def list(self, request: Request) -> Response:
        record = self._record(request)
        listed = [shapes.latest(record), *(shapes.numbered(record, number) for number in record.published)]
        chosen, marker = page(request, listed)
        return JSONResponse({"Versions": chosen, **({"NextMarker": marker} if marker else {})})

    async def create_alias(self, request: Request) -> Response:
        members = await read_object(request, "CreateAlias")
        record = self._record(request)
        name = check_alias(members.required("Name", str))
        if name in record.aliases:
            raise PlatformError("ResourceConflictException", f"Alias already exists: {record.latest.arn}:{name}")
        target = parse_target(record, members.required("FunctionVersion", str))
        return JSONResponse(self._put(record, name, target, (), "", members), 201)

    async def list_aliases(self, request: Request) -> Response:
        record = self._record(request)
        wanted = request.query_params.get("FunctionVersion")
        aliases = [a for a in record.aliases.values() if wanted in (None, a.target)]
        chosen, marker = page(request, [shapes.alias_shape(record, alias) for alias in aliases])
        return JSONResponse({"Aliases": chosen, **({"NextMarker": marker} if marker else {})})

    async def get_alias(self, request: Request) -> Response:
        record = self._record(request)
        return JSONResponse(shapes.alias_shape(record, _alias(record, request)))

    async def update_alias(self, request: Request) -> Response:
        members = await read_object(request, "UpdateAlias")
        record = self._record(request)
        alias = _alias(record, request)
        revision = members.take("RevisionId", str)
        if revision and revision != alias.revision:
            raise stale_revision()
        label = members.take("FunctionVersion", str)
        target = alias.target if label is None else parse_target(record, label)
        return JSONResponse(self._put(record, alias.alias, target, alias.weights, alias.description, members))

    async def delete_alias(self, request: Request) -> Response:
        record = self._record(request)
        self._platform.registry.remove_alias(record.name, request.path_params["alias"])
        self._changed(record.name)
        return Response(status_code=204)

    def _put(
        self,
        record: Record,
        name: str,
        target: str,
        weights: tuple[tuple[str, float], ...],
        description: str,
        members: Members,
    ) -> dict[str, Any]:
        description = members.take("Description", str, description)
        if (routing := members.object("RoutingConfig")) is not None:
            weights = parse_weights(record, target, routing.take("AdditionalVersionWeights", dict, {}))
            routing.done()
        members.done()
        self._platform.registry.put_alias(record.name, name, target, weights, description)
        changed = self._changed(record.name)
        return shapes.alias_shape(changed, changed.aliases[name])

    def _record(self, request: Request) -> Record:
        return self._platform.catalog.record(parse_name(request.path_params["name"], None, tenant_of(request))[0])

    def _changed(self, name: str) -> Record:
        record = self._platform.changed(name)
        assert record
        return record


def _alias(record: Record, request: Request) -> Alias:
    name = request.path_params["alias"]
    if name not in record.aliases:
        raise PlatformError("ResourceNotFoundException", f"Cannot find alias arn: {record.latest.arn}:{name}")
    return record.aliases[name]


def check_alias(name: str) -> str:
    """An alias's name. Raises PlatformError (400)."""
    if not _ALIAS.fullmatch(name):
        raise invalid(f"alias {name[:200]!r} is not 1 to 128 of letters, digits, '-' and '_', or is a number")
    return name


def parse_target(record: Record, label: str) -> str:
    """What an alias may point to. Raises PlatformError (404)."""
    if label != LATEST and not (label.isdecimal() and int(label) in record.published):
        raise not_found(f"{record.name}:{label}")
    return label


def parse_weights(record: Record, target: str, given: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """The shares of other versions. Raises PlatformError (400, 404)."""
    weights: list[tuple[str, float]] = []
    for label, weight in given.items():
        if LATEST in (label, target):
            raise invalid("an alias that points to $LATEST cannot share its calls with other versions")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise invalid(f"the weight of version {label} must be between 0.0 and 1.0")
        weights.append((parse_target(record, label), float(weight)))
    if sum(weight for _, weight in weights) > 1:
        raise invalid("the weights of an alias must not add up to more than 1.0")
    return tuple(weights)
