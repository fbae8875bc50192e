"""The gateway as one ASGI application."""

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.types import ASGIApp

from kasoku.gateway.errors import on_platform_error
from kasoku.gateway.hosts import HostCheck
from kasoku.gateway.invoke import InvokeRoute
from kasoku.gateway.native import routes
from kasoku.gateway.platform import Platform
from kasoku.node.errors import PlatformError


def make_app(platform: Platform, hosts: Iterable[str] = ()) -> ASGIApp:
    """Host check, then Lambda's Invoke, then the native routes."""
    native = Starlette(routes=routes(platform), exception_handlers={PlatformError: on_platform_error})
    return HostCheck(InvokeRoute(native, platform), hosts)
