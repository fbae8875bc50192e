"""`kasoku tenants`: who shares this node, and how much each may have. Works on the database, as `kasoku keys` does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kasoku.cli.terminal import home_option, table
from kasoku.home import Home
from kasoku.sdk.errors import KasokuError

if TYPE_CHECKING:
    from kasoku.registry.tenants import TenantStore


@click.group()
def tenants() -> None:
    """Tenants: each sees its own functions, calls, logs and secrets, within its limits."""


@contextmanager
def _store(home: str | None) -> "Iterator[TenantStore]":
    from kasoku.registry.store import Registry
    from kasoku.registry.tenants import TenantStore

    registry = Registry(Home.resolve(home).make().state_db)
    try:
        yield TenantStore(registry)
    finally:
        registry.close()


@tenants.command("set")
@click.argument("name")
@home_option
@click.option("--concurrency", type=click.IntRange(0), help="Invocations at a time.")
@click.option("--memory", type=click.IntRange(64), help="MiB of all instances together.")
@click.option("--device-seconds", type=click.FloatRange(0), help="Seconds of devices in a day of UTC.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second, in the long run.")
@click.option("--burst", type=click.IntRange(1), help="Requests at once. [default: as many as a second's]")
def set_tenant(
    name: str,
    home: str | None,
    concurrency: int | None,
    memory: int | None,
    device_seconds: float | None,
    rate: float | None,
    burst: int | None,
) -> None:
    """Make tenant NAME, or replace its limits: what is not said is not limited. `kasoku keys create --tenant NAME`."""
    from kasoku.tenants.model import Tenant

    with _store(home) as store:
        store.put(Tenant(name, concurrency, memory, device_seconds, rate, burst))


@tenants.command("ls")
@home_option
def list_tenants(home: str | None) -> None:
    """List the tenants and their limits."""
    with _store(home) as store:
        rows = [[t.name, t.concurrency, t.memory_mib, t.device_seconds, t.rate, t.burst] for t in store.list()]
    click.echo(table(["NAME", "CONCURRENCY", "MEMORY MIB", "DEVICE-SECONDS A DAY", "REQUESTS/S", "BURST"], rows))


@tenants.command()
@click.argument("name")
@home_option
def rm(name: str, home: str | None) -> None:
    """Remove tenant NAME, which has no functions any more, and its keys."""
    with _store(home) as store:
        if not store.remove(name):
            raise KasokuError(f"there is no tenant {name}")
