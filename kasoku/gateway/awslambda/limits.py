"""Reserved concurrency, and how asynchronous invocations of a function are treated."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.gateway.awslambda.request import Members, invalid, page, read_object
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError
from kasoku.registry.model import LATEST, Record
from kasoku.tenants.model import local

MAX_CONCURRENCY = 100_000
MAX_RETRIES = 2
AGE_SECONDS = (60, 21_600)


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Limits(platform)
    concurrency = "/functions/{name}/concurrency"
    invoke_config = "/2019-09-25/functions/{name}/event-invoke-config"
    return [
        Route(f"/2017-10-31{concurrency}", api.put_concurrency, methods=["PUT"]),
        Route(f"/2017-10-31{concurrency}", api.delete_concurrency, methods=["DELETE"]),
        Route(f"/2019-09-30{concurrency}", api.get_concurrency),
        Route(f"{invoke_config}/list", api.list_invoke_configs),
        Route(invoke_config, api.put_invoke_config, methods=["PUT"]),
        Route(invoke_config, api.update_invoke_config, methods=["POST"]),
        Route(invoke_config, api.get_invoke_config),
        Route(invoke_config, api.delete_invoke_config, methods=["DELETE"]),
    ]


class _Limits:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def put_concurrency(self, request: Request) -> Response:
        members = await read_object(request, "PutFunctionConcurrency")
        record, _ = self._record(request)
        limit = members.number("ReservedConcurrentExecutions", 0, MAX_CONCURRENCY)
        members.done()
        if limit is None:
            raise invalid("ReservedConcurrentExecutions is missing")
        self._platform.registry.set_concurrency(record.name, limit)
        self._platform.changed(record.name)
        return JSONResponse({"ReservedConcurrentExecutions": limit})

    async def get_concurrency(self, request: Request) -> Response:
        record, _ = self._record(request)
        return JSONResponse({} if record.concurrency is None else {"ReservedConcurrentExecutions": record.concurrency})

    async def delete_concurrency(self, request: Request) -> Response:
        record, _ = self._record(request)
        self._platform.registry.set_concurrency(record.name, None)
        self._platform.changed(record.name)
        return Response(status_code=204)

    async def put_invoke_config(self, request: Request) -> Response:
        return await self._write(request, {})

    async def update_invoke_config(self, request: Request) -> Response:
        record, qualifier = self._record(request)
        return await self._write(request, _config(record, qualifier)[0])

    async def get_invoke_config(self, request: Request) -> Response:
        record, qualifier = self._record(request)
        return JSONResponse(_shape(record, qualifier, *_config(record, qualifier)))

    async def list_invoke_configs(self, request: Request) -> Response:
        record, _ = self._record(request)
        shapes = [_shape(record, qualifier, *found) for qualifier, found in record.event_invoke.items()]
        chosen, marker = page(request, shapes)
        return JSONResponse({"FunctionEventInvokeConfigs": chosen, **({"NextMarker": marker} if marker else {})})

    async def delete_invoke_config(self, request: Request) -> Response:
        record, qualifier = self._record(request)
        _config(record, qualifier)
        self._platform.registry.set_event_invoke(record.name, qualifier, None)
        self._platform.changed(record.name)
        return Response(status_code=204)

    async def _write(self, request: Request, before: dict[str, Any]) -> Response:
        members = await read_object(request, "PutFunctionEventInvokeConfig")
        record, qualifier = self._record(request)
        config = {**before, **self._parse(members, record.latest.tenant)}
        self._platform.registry.set_event_invoke(record.name, qualifier, config)
        changed = self._platform.changed(record.name)
        assert changed
        return JSONResponse(_shape(changed, qualifier, config, time.time()))

    def _parse(self, members: Members, tenant: str) -> dict[str, Any]:
        """`tenant`: whose function it is, and with that whose the destinations are."""
        given: dict[str, Any] = {
            "MaximumRetryAttempts": members.number("MaximumRetryAttempts", 0, MAX_RETRIES),
            "MaximumEventAgeInSeconds": members.number("MaximumEventAgeInSeconds", *AGE_SECONDS),
        }
        if (destinations := members.object("DestinationConfig")) is not None:
            found: dict[str, Any] = {}
            for when in ("OnSuccess", "OnFailure"):
                if (member := destinations.object(when)) is not None:
                    if target := member.take("Destination", str):
                        found[when] = {"Destination": self._destination(target, tenant)}
                    member.done()
            destinations.done()
            given["DestinationConfig"] = found
        members.done()
        return {key: value for key, value in given.items() if value is not None}

    def _destination(self, target: str, tenant: str) -> str:
        if target.startswith(("http://", "https://")):
            return target
        self._platform.catalog.resolve(*parse_name(local(target), None, tenant))
        return target

    def _record(self, request: Request) -> tuple[Record, str]:
        name, qualifier = parse_name(
            request.path_params["name"], request.query_params.get("Qualifier"), tenant_of(request)
        )
        self._platform.catalog.resolve(name, qualifier)
        return self._platform.catalog.record(name), qualifier


def _config(record: Record, qualifier: str) -> tuple[dict[str, Any], float]:
    if qualifier not in record.event_invoke:
        arn = record.latest.arn if qualifier == LATEST else f"{record.latest.arn}:{qualifier}"
        message = f"The function {arn} doesn't have an EventInvokeConfig"
        raise PlatformError("ResourceNotFoundException", message)
    return record.event_invoke[qualifier]


def _shape(record: Record, qualifier: str, config: dict[str, Any], at: float) -> dict[str, Any]:
    return {"LastModified": at, "FunctionArn": f"{record.latest.arn}:{qualifier}", **config}
