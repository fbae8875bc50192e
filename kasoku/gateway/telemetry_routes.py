"""Routes for looking on: metrics, events, usage, and one answer with all that a dashboard shows."""

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasoku.controller.pool import State
from kasoku.gateway.awslambda.request import invalid
from kasoku.gateway.names import tenant_of
from kasoku.gateway.native import describe_device, describe_leases, describe_members, describe_record
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError
from kasoku.telemetry.metrics import CONTENT_TYPE, Gauge, exposition
from kasoku.telemetry.traces import document
from kasoku.tenants.model import reaches, shown

MAX_WAIT_SECONDS = 60.0


def routes(platform: Platform) -> list[Route]:
    """The routes, bound to a platform."""
    api = _Telemetry(platform)
    return [
        Route("/metrics", api.metrics),
        Route("/v1/events", api.events),
        Route("/v1/usage", api.usage),
        Route("/v1/status", api.status),
        Route("/v1/traces", api.traces),
    ]


class _Telemetry:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._started_at = time.time()

    async def metrics(self, request: Request) -> Response:
        if tenant_of(request):
            raise PlatformError("AccessDeniedException", "metrics of all tenants are for the operator's keys")
        counts = await self._platform.calls.counts()
        return Response(exposition(self._platform.metrics, self._gauges(counts)), media_type=CONTENT_TYPE)

    def _gauges(self, counts: dict[str, int]) -> list[Gauge]:
        controller = self._platform.controller
        instances: dict[tuple[str, str], int] = {}
        for pool in controller.pools.values():
            for state in State:
                if count := pool.count(state):
                    key = (pool.function.name, state.name.lower())
                    instances[key] = instances.get(key, 0) + count
        waiting = {pool.function.name: len(pool.tickets) for pool in controller.pools.values()}
        leases, standbys = controller.leases, self._platform.node.standbys
        return [
            (
                "kasoku_instances",
                "Instances by state.",
                [({"function": f, "state": s}, n) for (f, s), n in instances.items()],
            ),
            ("kasoku_waiting", "Invocations without an instance.", [({"function": f}, n) for f, n in waiting.items()]),
            (
                "kasoku_device_held",
                "1 while a device is leased.",
                [({"device": d}, float(d in leases.leases)) for d in leases.devices],
            ),
            (
                "kasoku_device_standby",
                "1 while a broker stands by that has opened the device.",
                [({"device": d}, float(bool(standbys and standbys.pid(d)))) for d in leases.devices],
            ),
            ("kasoku_lease_requests", "Instances that wait for a device.", [({}, len(leases.queue))]),
            ("kasoku_calls", "Asynchronous calls that have not ended.", [({"state": s}, n) for s, n in counts.items()]),
            ("kasoku_memory_mib", "Memory that instances may use together.", [({}, self._platform.node.memory_mib)]),
        ]

    async def events(self, request: Request) -> Response:
        after, wait_s = _number(request, "after", 0), _number(request, "wait", 0)
        if wait_s > MAX_WAIT_SECONDS:
            raise invalid(f"wait must be at most {MAX_WAIT_SECONDS:g} seconds")
        tenant, found = tenant_of(request), await self._platform.controller.events.after(int(after), wait_s)
        return JSONResponse([_told(event, tenant) for event in found if _concerns(event, tenant)])

    async def usage(self, request: Request) -> Response:
        since = _number(request, "since", 0)
        price = self._platform.settings.device_hour_price
        lines, tenant = await asyncio.to_thread(self._platform.usage.report, since, price), tenant_of(request)
        own = [_told(line, tenant) for line in lines if _concerns(line, tenant)]
        return JSONResponse({"since": since, "device_hour_price": price, "lines": own})

    async def traces(self, request: Request) -> Response:
        tenant, wanted = tenant_of(request), request.query_params.get("trace")
        spans = [span for name, span in self._platform.traces.found(wanted) if reaches(tenant, name)]
        return JSONResponse(document(spans))

    async def status(self, request: Request) -> Response:
        platform, tenant = self._platform, tenant_of(request)
        functions: list[dict[str, Any]] = []
        for record in platform.catalog.records(tenant):
            metrics = platform.metrics.functions.get(record.name)
            described = describe_record(record, tenant)
            # Values of the environment are for the function alone.
            described["options"] = {k: v for k, v in described["options"].items() if k != "env"}
            if metrics:
                described["metrics"] = {
                    "outcomes": metrics.outcomes,
                    "warm_ms": metrics.warm.percentiles(),
                    "cold_ms": metrics.cold.percentiles(),
                    "cold": metrics.cold.count,
                    "warm": metrics.warm.count,
                }
            functions.append(described)
        return JSONResponse(
            {
                "now": time.time(),
                "started_at": self._started_at,
                "functions": functions,
                "instances": describe_members(platform, tenant),
                "devices": [describe_device(platform, device, tenant) for device in platform.node.listed],
                "leases": describe_leases(platform, tenant),
                "device_error": platform.node.device_error or None,
                "waiting": {
                    shown(tenant, p.function.name): len(p.tickets)
                    for p in platform.controller.pools.values()
                    if p.tickets and reaches(tenant, p.function.name)
                },
                "calls": await platform.calls.counts(tenant),
                "memory_mib": platform.node.memory_mib,
            }
        )


def _concerns(item: dict[str, Any], tenant: str) -> bool:
    """Whether an event or a line of usage is a caller's business."""
    return reaches(tenant, item.get("function", ""))


def _told(item: dict[str, Any], tenant: str) -> dict[str, Any]:
    return {**item, "function": shown(tenant, item["function"])} if "function" in item else item


def _number(request: Request, name: str, default: float) -> float:
    try:
        value = float(request.query_params.get(name, default))
    except ValueError:
        raise invalid(f"{name} must be a number") from None
    if not 0 <= value < 1e12:
        raise invalid(f"{name} must not be negative, or beyond all bounds")
    return value
