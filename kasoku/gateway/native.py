"""Kasoku's own routes, `/v1/...`: JSON in, JSON out, errors as in `errors`."""

import asyncio
import base64
import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.controller.controller import Served
from kasoku.controller.pool import Member
from kasoku.gateway.blobs import parse_blobs
from kasoku.gateway.body import ClientGone, read_body
from kasoku.gateway.deploy import MAX_UPLOAD, Code
from kasoku.gateway.invoke import check_payload
from kasoku.gateway.names import parse_name, tenant_of
from kasoku.gateway.platform import Platform, new_request_id
from kasoku.node.errors import FunctionFailed, PlatformError
from kasoku.node.process import resident_mib
from kasoku.node.runner import MAX_PAYLOAD
from kasoku.registry.model import LATEST, FunctionVersion, Record, Resolved
from kasoku.sdk.remote import BLOBS_HEADER, DETAIL_HEADER
from kasoku.sdk.wire import CONTENT_TYPE
from kasoku.tenants.model import reaches, shown

MAX_LOG_BYTES = 1 << 20
MAX_HEADER_LOG = 4096
"""Characters of log in an answer whose envelope is a header, as an answer of frames has it."""


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Api(platform)
    return [
        Route("/v1/health", api.health),
        Route("/v1/functions", api.list_functions),
        Route("/v1/functions/{name}:invoke", api.invoke, methods=["POST"]),
        Route("/v1/functions/{name}/logs", api.logs),
        Route("/v1/functions/{name}", api.get_function),
        Route("/v1/functions/{name}", api.deploy, methods=["PUT"]),
        Route("/v1/functions/{name}", api.remove, methods=["DELETE"]),
        Route("/v1/instances", api.instances),
        Route("/v1/devices", api.devices),
        Route("/v1/leases", api.leases),
    ]


class _Api:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def list_functions(self, request: Request) -> Response:
        tenant = tenant_of(request)
        return JSONResponse([describe_record(record, tenant) for record in self._platform.catalog.records(tenant)])

    async def get_function(self, request: Request) -> Response:
        return JSONResponse(_describe(self._resolve(request).function, tenant_of(request)))

    async def deploy(self, request: Request) -> Response:
        tenant = tenant_of(request)
        name, qualifier = parse_name(request.path_params["name"], None, tenant)
        if qualifier != LATEST:
            raise PlatformError("InvalidParameterValueException", "a function is deployed without a version")
        body = await _body(request, MAX_UPLOAD, "DeployFunction")
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise PlatformError("InvalidRequestContentException", f"the request is not JSON: {error}") from None
        known = {"handler", "options", "code"}
        if not isinstance(sent, dict) or sent.keys() - known or "handler" not in sent:
            raise PlatformError("InvalidParameterValueException", "a deployment has the keys handler, code and options")
        code = Code.from_json(sent.get("code"))
        record = await self._platform.deploy(name, sent["handler"], sent.get("options", {}), code)
        return JSONResponse(describe_record(record, tenant))

    async def remove(self, request: Request) -> Response:
        self._platform.remove(self._resolve(request).function.name)
        return Response(status_code=204)

    async def invoke(self, request: Request) -> Response:
        payload = await _body(request, MAX_PAYLOAD, "InvokeFunction")
        frames = request.headers.get("content-type") == CONTENT_TYPE
        if not frames:
            check_payload(payload)
        resolved = self._resolve(request)
        request_id = new_request_id()
        tenant, store = tenant_of(request), self._platform.blobs
        try:
            with store.pin(tenant, parse_blobs(request.headers.get(BLOBS_HEADER))) as blobs:
                served = await self._platform.invoke(
                    resolved,
                    request_id,
                    payload,
                    frames=frames,
                    accepts_frames=frames or request.headers.get("accept") == CONTENT_TYPE,
                    blobs=blobs,
                    keep=lambda: store.writer(tenant),
                    traceparent=request.headers.get("traceparent"),
                )
        except FunctionFailed as error:
            log = error.log.decode(errors="backslashreplace")
            return JSONResponse({"request_id": request_id, "error": error.failure.to_json(), "log": log})
        envelope = _envelope(request_id, served)
        if served.outcome.frames:
            envelope["log"] = envelope["log"][-MAX_HEADER_LOG:]
            headers = {DETAIL_HEADER: base64.b64encode(json.dumps(envelope).encode()).decode()}
            if kept := served.outcome.blobs:
                headers[BLOBS_HEADER] = ",".join(kept)
            return Response(served.outcome.payload, media_type=CONTENT_TYPE, headers=headers)
        head = json.dumps(envelope).encode()
        if served.outcome.failure is None:
            # The result is JSON text already (checked): it is put in as it came.
            head = head[:-1] + b', "result": ' + served.outcome.payload + b"}"
        return Response(head, media_type="application/json")

    async def logs(self, request: Request) -> Response:
        name = self._resolve(request).function.name
        try:
            limit = min(MAX_LOG_BYTES, max(0, int(request.query_params.get("bytes", "65536"))))
        except ValueError:
            raise PlatformError("InvalidParameterValueException", "bytes must be a whole number") from None
        log = self._platform.node.log(name)
        if after := request.query_params.get("after"):
            text, position = log.read_after(after, MAX_LOG_BYTES)
        else:
            position = log.position
            text = log.read(limit)
        headers = {"x-content-type-options": "nosniff", "x-kasoku-position": position}
        return Response(text, media_type="text/plain; charset=utf-8", headers=headers)

    async def instances(self, request: Request) -> Response:
        described = describe_members(self._platform, tenant_of(request))
        # The kernel walks all page tables of each for that: too long for the event loop.
        await asyncio.to_thread(_add_memory, described)
        return JSONResponse(described)

    async def devices(self, request: Request) -> Response:
        tenant = tenant_of(request)
        listed = [describe_device(self._platform, device, tenant) for device in self._platform.node.listed]
        return JSONResponse({"devices": listed, "error": self._platform.node.device_error or None})

    async def leases(self, request: Request) -> Response:
        return JSONResponse(describe_leases(self._platform, tenant_of(request)))

    def _resolve(self, request: Request) -> Resolved:
        name, qualifier = parse_name(
            request.path_params["name"], request.query_params.get("qualifier"), tenant_of(request)
        )
        return self._platform.catalog.resolve(name, qualifier)


async def _body(request: Request, limit: int, what: str) -> bytes:
    try:
        return await read_body(request.scope, request.receive, limit, what)
    except ClientGone:
        raise PlatformError("InvalidRequestContentException", "the client went away") from None


def _envelope(request_id: str, served: Served) -> dict[str, Any]:
    outcome = served.outcome
    envelope: dict[str, Any] = {
        "request_id": request_id,
        "cold": served.cold,
        "accelerator": served.accelerator,
        "instance": {
            "id": served.instance_id,
            "vmm_pid": served.pid,
            "broker_pid": served.broker_pid,
            "guest": served.guest,
        },
        "timings_ms": {name.removesuffix("_ms"): round(value, 3) for name, value in served.timings.items()},
        "phases_ms": {name: round(value, 3) for name, value in outcome.phases.items()},
        "log": outcome.log.decode(errors="backslashreplace"),
    }
    if outcome.failure:
        envelope["error"] = outcome.failure.to_json()
    return envelope


def _describe(function: FunctionVersion, tenant: str) -> dict[str, Any]:
    return {
        "name": shown(tenant, function.name),
        "version": function.version,
        "handler": function.handler,
        "options": function.options.to_json(),
        "layers": list(function.layers),
    }


def describe_device(platform: Platform, device: dict[str, object], tenant: str) -> dict[str, Any]:
    """A device, who holds it, how many could use it, and whether a broker stands by.

    Of another tenant's holder is told only that there is one.
    """
    leases, id = platform.controller.leases, str(device["id"])
    lease = leases.leases.get(id)
    waiting = sum(1 for r in leases.queue if leases.devices[id].matches(r.selector))
    held_by = None
    if lease:
        held_by = lease.owner if reaches(tenant, platform.controller.function_of(lease.owner)) else "another tenant"
    standbys = platform.node.standbys
    standby = bool(standbys and standbys.pid(id))
    return {**device, "held_by": held_by, "waiting": waiting, "standby": standby}


def describe_leases(platform: Platform, tenant: str) -> dict[str, Any]:
    """Who holds which device, who waits for one (first of the line first), and what each share has used of late."""
    controller, now = platform.controller, time.monotonic()
    table = controller.leases

    def described(id: str, priority: int) -> dict[str, Any]:
        name = controller.function_of(id)
        if not reaches(tenant, name):
            return {"instance": None, "function": "of another tenant", "priority": priority}
        return {"instance": id, "function": shown(tenant, name), "priority": priority}

    holders = [
        {
            "device": lease.device.full_id,
            **described(lease.owner, lease.priority),
            "epoch": lease.epoch & 0xFFFFFFFF,
            "idle": lease.idle,
            "held_s": round(now - lease.since, 3),
            "left_s": round(lease.deadline - now, 3),
        }
        for lease in table.leases.values()
    ]
    waiters = [
        {
            "wants": request.selector,
            **described(request.owner, request.priority),
            "suspended": request.resumes,
            "waits_s": round(now - request.asked_at, 3),
            "left_s": round(request.deadline - now, 3),
        }
        for request in sorted(table.queue, key=lambda r: (-r.priority, table.used(r.group, now), r.asked_at))
    ]
    groups = {request.group for request in table.queue} | {lease.group for lease in table.leases.values()}
    shares = {g: round(table.used(g, now), 3) for g in sorted(groups) if not tenant or g == tenant}
    return {"holders": holders, "waiters": waiters, "used_s": shares}


def describe_record(record: Record, tenant: str) -> dict[str, Any]:
    """A function with what leads to it."""
    return {
        **_describe(record.latest, tenant),
        "description": record.description,
        "deployed_at": record.deployed_at,
        "published": {str(p.number): p.function.version for p in record.published.values()},
        "aliases": {a.alias: {"version": a.target, "weights": dict(a.weights)} for a in record.aliases.values()},
        "concurrency": record.concurrency,
    }


def describe_members(platform: Platform, tenant: str) -> list[dict[str, Any]]:
    """The instances that a caller may see."""
    members = platform.controller.members()
    return [_describe_member(m, tenant) for m in members if reaches(tenant, m.pool.function.name)]


def _add_memory(described: list[dict[str, Any]]) -> None:
    """MiB that each VM has to itself, and that it has in common with others: snapshot and layers."""
    for one in described:
        own, shared = (resident_mib(one["vmm_pid"]) if one["vmm_pid"] else None) or (None, None)
        one |= {"private_mib": own, "shared_mib": shared}


def _describe_member(member: Member, tenant: str) -> dict[str, Any]:
    instance = member.instance
    return {
        "id": member.id,
        "function": shown(tenant, member.pool.function.name),
        "version": member.pool.function.version,
        "state": member.state.value,
        "start": ("restored" if instance.restored else "booted") if instance else None,
        "vmm_pid": instance.pid if instance else None,
        "broker_pid": instance.broker_pid if instance else None,
        "accelerator": member.lease.device.full_id if member.lease else None,
        "memory_mib": member.pool.function.options.memory,
        "invocations": instance.invocations if instance else 0,
        "outstanding": member.outstanding,
        "age_s": round(time.time() - instance.started_at, 1) if instance else None,
    }
