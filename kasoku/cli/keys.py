"""`kasoku keys`: who may use the gateway of a state directory. Works on its database, with a server running or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from kasoku.cli.terminal import home_option, table
from kasoku.home import Home
from kasoku.sdk.errors import KasokuError

if TYPE_CHECKING:
    from kasoku.registry.secrets import KeyStore


@click.group()
def keys() -> None:
    """Access keys. As soon as there is one, every request must prove to have one."""


@contextmanager
def _store(home: str | None) -> "Iterator[KeyStore]":
    from kasoku.registry.secrets import KeyStore
    from kasoku.registry.store import Registry

    registry = Registry(Home.resolve(home).make().state_db)
    try:
        yield KeyStore(registry)
    finally:
        registry.close()


@keys.command()
@click.argument("name")
@home_option
@click.option("--tenant", default="", help="The tenant whose key it is. [default: the operator's, which reaches all]")
def create(name: str, home: str | None, tenant: str) -> None:
    """Make a key; NAME says whose it is. The secret is shown this once."""
    with _store(home) as store:
        if tenant and not store.has_tenant(tenant):
            raise KasokuError(f"there is no tenant {tenant}; make it with `kasoku tenants set {tenant}`")
        id, secret = store.create(name, tenant)
    click.echo(f"AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\nKASOKU_KEY={id}.{secret}")


@keys.command("ls")
@home_option
def list_keys(home: str | None) -> None:
    """List the keys."""
    with _store(home) as store:
        rows = [
            [k.id, k.name, k.tenant or None, datetime.fromtimestamp(k.created_at).strftime("%Y-%m-%d %H:%M:%S")]
            for k in store.list()
        ]
    click.echo(table(["ID", "NAME", "TENANT", "MADE"], rows))


@keys.command()
@click.argument("id")
@home_option
def rm(id: str, home: str | None) -> None:
    """Remove key ID: from now on it opens nothing."""
    with _store(home) as store:
        if not store.remove(id):
            raise KasokuError(f"there is no key {id}")
