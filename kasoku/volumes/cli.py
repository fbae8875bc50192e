"""`kasoku volume`: makes, lists, checks and removes volumes."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from kasoku.cli.terminal import home_option, table
from kasoku.home import Home
from kasoku.volumes.store import VolumeError, VolumeStore

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def volume() -> None:
    """Volumes: read-only directories for model weights and data sets, mapped into guests without a copy."""


@volume.command()
@click.argument("name")
@click.argument("directory", type=Path)
@home_option
def create(name: str, directory: Path, home: str | None) -> None:
    """Make volume NAME of the files in DIRECTORY.

    One that had the name is replaced, for guests that start from then on.
    """
    layer = _store(home).create(name, directory)
    click.echo(f"{layer.hex[:12]}  {_mib(layer.size):>9}  {name}")


@volume.command()
@home_option
@json_option
def ls(home: str | None, as_json: bool) -> None:
    """List the volumes."""
    store = _store(home)
    volumes = {name: store.description(name) for name in store.names()}
    if as_json:
        click.echo(
            json.dumps([{"name": name, **msgspec.to_builtins(layer)} for name, layer in volumes.items()], indent=2)
        )
        return
    rows = [[name, _mib(layer.size), layer.hex[:12]] for name, layer in volumes.items()]
    click.echo(table(["NAME", "SIZE", "LAYER"], rows))


@volume.command()
@click.argument("name")
@home_option
@json_option
def inspect(name: str, home: str | None, as_json: bool) -> None:
    """Show volume NAME and check every byte of it. Exit status 1 if it is missing or has changed."""
    store = _store(home)
    layer = store.load(name)
    store.verify(layer)
    if as_json:
        click.echo(json.dumps({"name": name, **msgspec.to_builtins(layer)}, indent=2))
        return
    click.echo(table(["LAYER", "SIZE"], [[layer.digest, _mib(layer.size)]]))
    click.echo("verified: the volume has the contents that its digest names")


@volume.command()
@click.argument("names", nargs=-1, required=True)
@home_option
def rm(names: tuple[str, ...], home: str | None) -> None:
    """Remove volumes. One that a deployed function has is not removed; guests that run keep theirs."""
    store = _store(home)
    users = _users(home)
    for name in names:
        if functions := users.get(name):
            raise VolumeError(f"volume {name} is used by {', '.join(functions)}: remove or change that first")
        store.remove(name)


def _users(home: str | None) -> dict[str, list[str]]:
    """The deployed functions that have each volume."""
    from kasoku.registry.store import Registry

    database = Home.resolve(home).state_db
    users: dict[str, list[str]] = {}
    if database.exists():
        registry = Registry(database)
        for record in registry.list():
            for name in {name for function in record.functions for _, name in function.options.volumes}:
                users.setdefault(name, []).append(record.name)
        registry.close()
    return users


def _store(home: str | None) -> VolumeStore:
    return VolumeStore(Home.resolve(home).path)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
