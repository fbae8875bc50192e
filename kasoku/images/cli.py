"""`kasoku image`: builds, lists, checks and removes images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from kasoku.cli.terminal import home_option, table
from kasoku.home import Home
from kasoku.images.errors import ImageError
from kasoku.images.model import Layer
from kasoku.images.requirements import read_requirements
from kasoku.images.store import DEFAULT_ENVIRONMENT, ImageStore

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def image() -> None:
    """Images: stacks of read-only layers that guests have as their root file system."""


@image.command()
@click.argument("name")
@click.option("--python", is_flag=True, help="This machine's Python. Implied by the requirement options.")
@click.option("--requirements", "-r", "files", multiple=True, type=Path, help="Wheels for a requirements.txt.")
@click.option("--require", "wanted", multiple=True, metavar="REQUIREMENT", help="Wheels for one requirement.")
@click.option("--tree", "trees", multiple=True, metavar="DIR[:PATH]", help="A directory, at PATH of the guest [/].")
@click.option("--env", "-e", "env", multiple=True, metavar="NAME=VALUE", help="Set an environment variable.")
@click.option("--workdir", "-w", default="/", show_default=True, help="Where programs start.")
@click.option("--refresh", is_flag=True, help="Resolve requirements again, to newer versions.")
@click.argument("program", nargs=-1)
@home_option
def build(
    name: str,
    python: bool,
    files: tuple[Path, ...],
    wanted: tuple[str, ...],
    trees: tuple[str, ...],
    env: tuple[str, ...],
    workdir: str,
    refresh: bool,
    program: tuple[str, ...],
    home: str | None,
) -> None:
    """Build image NAME from what the options name; PROGRAM (after --) runs where `kasoku exec` names none.

    Layers are stacked in this order: Python, wheels, directories as they are given. Nothing of a package is executed.
    """
    store = _store(home)
    requirements = [line for file in files for line in read_requirements(file)] + list(wanted)
    steps: list[tuple[str, Callable[[], Layer]]] = []
    if python or requirements:
        steps.append(("python", store.ensure_python_layer))
    if requirements:
        steps.append(("requirements", lambda: store.ensure_requirements_layer(requirements, refresh=refresh)))
    for tree in trees:
        folder, at = _tree(tree)
        steps.append((tree, lambda folder=folder, at=at: store.build_tree_layer(folder, at)))  # type: ignore[misc]
    if not steps:
        raise ImageError("an image is made from something: name --python, --requirements FILE or --tree DIR")
    variables = dict(DEFAULT_ENVIRONMENT)
    for variable in env:
        key, sign, value = variable.partition("=")
        if not sign or not key:
            raise ImageError(f"--env wants NAME=VALUE, not {variable!r}")
        variables[key] = value
    layers = []
    for what, step in steps:
        layer = step()
        layers.append(layer)
        click.echo(f"{layer.hex[:12]}  {_mib(layer.size):>9}  {what}")
    store.save(name, layers, env=variables, cwd=workdir, args=program)


@image.command()
@home_option
@json_option
def ls(home: str | None, as_json: bool) -> None:
    """List the images."""
    store = _store(home)
    images = [store.description(name) for name in store.names()]
    if as_json:
        click.echo(json.dumps([_row(msgspec.to_builtins(one)) for one in images], indent=2))
        return
    rows = []
    for one in images:
        size = sum(layer.size for layer in one.layers)
        rows.append([one.name, _mib(size), " + ".join(layer.kind for layer in one.layers)])
    click.echo(table(["NAME", "SIZE", "LAYERS"], rows))


@image.command()
@click.argument("name")
@home_option
@json_option
def inspect(name: str, home: str | None, as_json: bool) -> None:
    """Show image NAME and check every byte of its layers. Exit status 1 if one is missing or has changed."""
    store = _store(home)
    one = store.load(name)
    store.verify(one)
    if as_json:
        click.echo(json.dumps(_row(msgspec.to_builtins(one)), indent=2))
        return
    click.echo(table(["LAYER", "SIZE", "KIND"], [[x.digest, _mib(x.size), x.kind] for x in one.layers]))
    for key, value in sorted(one.env.items()):
        click.echo(f"env      {key}={value}")
    click.echo(f"workdir  {one.cwd}")
    if one.args:
        click.echo(f"program  {' '.join(one.args)}")
    click.echo("verified: every layer has the contents that its digest names")


@image.command()
@click.argument("names", nargs=-1, required=True)
@home_option
def rm(names: tuple[str, ...], home: str | None) -> None:
    """Remove images. Layers stay, for other images and functions, until `kasoku image prune`."""
    store = _store(home)
    for name in names:
        store.remove(name)


@image.command()
@home_option
def prune(home: str | None) -> None:
    """Delete the layers that no image, volume or function names, and that nobody asked for in the last hour."""
    from kasoku.registry.store import Registry
    from kasoku.volumes.store import VolumeStore

    store = _store(home)
    database = Home.resolve(home).state_db
    in_use = set(VolumeStore(Home.resolve(home).path).digests())
    if database.exists():
        registry = Registry(database)
        in_use |= {digest for record in registry.list() for f in record.functions for digest in f.layers}
        registry.close()
    for digest, size in store.prune(in_use):
        click.echo(f"{digest.removeprefix('sha256:')[:12]}  {_mib(size):>9}")


def _store(home: str | None) -> ImageStore:
    return ImageStore(Home.resolve(home).path)


def _tree(text: str) -> tuple[Path, str]:
    folder, colon, at = text.rpartition(":")
    return (Path(folder), at) if colon and at.startswith("/") else (Path(text), "/")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _row(built: Any) -> Any:
    return {**built, "size": sum(layer["size"] for layer in built["layers"])}
