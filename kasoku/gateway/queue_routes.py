"""Native routes of asynchronous calls and schedules."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.gateway.awslambda.request import invalid, read_object
from kasoku.gateway.body import ClientGone, read_body
from kasoku.gateway.calls import MAX_EVENT
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform
from kasoku.gateway.spawn import SpawnRoute, seconds
from kasoku.node.errors import PlatformError
from kasoku.queue.model import Call, CallState
from kasoku.queue.schedule import Schedule, ScheduleError
from kasoku.queue.store import QueueStore
from kasoku.queue.writer import StoreFailed
from kasoku.sdk.errors import OptionError
from kasoku.sdk.options import check_name
from kasoku.tenants.model import qualify, reaches, shown

MAX_WAIT_SECONDS = 60.0
MAX_LISTED = 1000


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Queue(platform)
    return [
        Route("/v1/functions/{name}:spawn", api.spawn, methods=["POST"]),
        Route("/v1/calls", api.list),
        Route("/v1/calls/{id}", api.get),
        Route("/v1/calls/{id}", api.cancel, methods=["DELETE"]),
        Route("/v1/schedules", api.list_schedules),
        Route("/v1/schedules/{name}", api.put_schedule, methods=["PUT"]),
        Route("/v1/schedules/{name}", api.remove_schedule, methods=["DELETE"]),
    ]


class _Queue:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._spawn = SpawnRoute(platform)

    async def spawn(self, request: Request) -> Response:
        try:
            payload = await read_body(request.scope, request.receive, MAX_EVENT, "SpawnFunction")
        except ClientGone:
            raise PlatformError("InvalidRequestContentException", "the client went away") from None
        status, headers, body = await self._spawn.answer(request.scope, payload)
        return Response(body, status, {name.decode(): value.decode() for name, value in headers})

    async def get(self, request: Request) -> Response:
        id = request.path_params["id"]
        wait_s, tenant = seconds(request.query_params.get("wait", "0"), "wait", MAX_WAIT_SECONDS), tenant_of(request)
        await self._check(id, tenant)
        call = await self._platform.calls.dispatcher.get(id, wait_s)
        if call is None:
            raise _no_call(id)
        head = json.dumps(_describe(call, tenant)).encode()
        if call.state is CallState.DONE:
            # The result is JSON text already (checked): it is put in as it came.
            head = head[:-1] + b', "result": ' + (call.result or b"null") + b"}"
        return Response(head, media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        id = request.path_params["id"]
        await self._check(id, tenant_of(request))
        return JSONResponse({"cancelled": await self._platform.calls.dispatcher.cancel(id)})

    async def list(self, request: Request) -> Response:
        query = request.query_params
        state = query.get("state")
        if state is not None and state not in list(CallState):
            raise invalid(f"state must be one of {', '.join(CallState)}")
        try:
            limit = int(query.get("limit", "100"))
        except ValueError:
            raise invalid("limit must be a whole number") from None
        limit, tenant, target = min(MAX_LISTED, max(0, limit)), tenant_of(request), query.get("function")
        target = None if target is None else qualify(tenant, target)
        calls = await self._platform.calls.writer.do(QueueStore.latest, tenant, target, state, limit)
        return JSONResponse([_describe(call, tenant) for call in calls])

    async def _check(self, id: str, tenant: str) -> None:
        """Raise PlatformError (404) unless there is such a call and the caller may see it."""
        call = await self._platform.calls.dispatcher.get(id)
        if call is None or not reaches(tenant, _function(call)):
            raise _no_call(id)

    async def list_schedules(self, request: Request) -> Response:
        tenant = tenant_of(request)
        listed = [s for s in await self._platform.calls.scheduler.listed() if reaches(tenant, s.name)]
        return JSONResponse([_describe_schedule(s, tenant) for s in listed])

    async def put_schedule(self, request: Request) -> Response:
        members = await read_object(request, "PutSchedule")
        target, qualifier = parse_name(
            members.required("function", str), members.take("qualifier", str), tenant_of(request)
        )
        expression = members.required("schedule", str)
        timezone = members.take("timezone", str, "UTC")
        payload = json.dumps(members.take("payload", object, {})).encode()
        members.done()
        self._platform.catalog.resolve(target, qualifier)
        try:
            name = qualify(tenant_of(request), check_name(request.path_params["name"]))
            made = await self._platform.calls.scheduler.put(name, target, qualifier, expression, timezone, payload)
        except (OptionError, ScheduleError) as error:
            raise invalid(str(error)) from None
        except StoreFailed as error:
            raise PlatformError("ServiceException", str(error)) from None
        return JSONResponse(_describe_schedule(made, tenant_of(request)))

    async def remove_schedule(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not await self._platform.calls.scheduler.remove(qualify(tenant_of(request), name)):
            raise PlatformError("ResourceNotFoundException", f"there is no schedule {name!r}")
        return Response(status_code=204)


def _function(call: Call) -> str:
    """The whole name of the function that a call is of. A delivery's record is the operator's business."""
    return "" if call.is_delivery else call.target


def _describe(call: Call, tenant: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": call.id,
        "function": call.target if call.is_delivery else shown(tenant, call.target),
        "qualifier": call.qualifier,
        "state": call.state,
        "attempts": call.attempts,
        "max_attempts": call.max_attempts,
        "accepted_at": call.accepted_at,
        "due_at": call.due_at,
        "finished_at": call.finished_at,
    }
    if call.error:
        described["error"] = json.loads(call.error)
    return described


def _describe_schedule(schedule: Schedule, tenant: str) -> dict[str, Any]:
    return {
        "name": shown(tenant, schedule.name),
        "function": shown(tenant, schedule.target),
        "qualifier": schedule.qualifier,
        "schedule": schedule.expression,
        "timezone": schedule.timezone,
        "payload": json.loads(schedule.payload),
        "next_at": schedule.next_at,
    }


def _no_call(id: str) -> PlatformError:
    return PlatformError("ResourceNotFoundException", f"there is no call {id[:100]!r}, or it ended long ago")
