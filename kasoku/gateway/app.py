"""The gateway as one ASGI application."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from kasoku.gateway import (
    blobs,
    cloudevents,
    dashboard,
    management,
    native,
    openapi,
    queue_routes,
    streaming,
    telemetry_routes,
)
from kasoku.gateway.access import Access
from kasoku.gateway.awslambda import functions, limits, versions
from kasoku.gateway.errors import on_fault, on_platform_error
from kasoku.gateway.guard import Guard
from kasoku.gateway.hosts import HostCheck
from kasoku.gateway.invoke import InvokeRoute
from kasoku.gateway.platform import Platform
from kasoku.gateway.protocol import ShortWay
from kasoku.gateway.spawn import SpawnRoute
from kasoku.node.errors import PlatformError

HANDLERS: dict[Any, Any] = {
    PlatformError: on_platform_error,
    OSError: on_fault,
    sqlite3.Error: on_fault,
    Exception: on_fault,
}
PARTS = (
    dashboard,
    openapi,
    native,
    blobs,
    management,
    queue_routes,
    streaming,
    cloudevents,
    telemetry_routes,
    functions,
    versions,
    limits,
)


def all_routes(platform: Platform) -> list[Route]:
    """Every route but Invoke's, bound to a platform."""
    return [route for part in PARTS for route in part.routes(platform)]


def make_app(platform: Platform, access: Access, hosts: Iterable[str] = ()) -> tuple[ASGIApp, ShortWay]:
    """Host check, keys, then Lambda's Invoke, then everything else; and the short way to Invoke."""
    others = Starlette(routes=all_routes(platform), exception_handlers=HANDLERS)
    invoke = InvokeRoute(others, platform)
    checked = HostCheck(Guard(invoke, access), hosts)
    return checked, ShortWay(checked, access, invoke, SpawnRoute(platform))
