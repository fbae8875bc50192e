"""`kasoku snapshot`: functions at rest, as they lie in the state directory. Works with or without a server."""

import json
from datetime import datetime
from typing import Any

import click

from kasoku.cli.terminal import home_option, printable, table
from kasoku.sdk.errors import KasokuError


@click.group()
def snapshot() -> None:
    """Show or delete the snapshots from which functions start."""


def _rows(home: str | None) -> list[dict[str, Any]]:
    from kasoku.home import Home
    from kasoku.node.snapshots.file import Manifest
    from kasoku.node.snapshots.store import SnapshotStore

    rows: list[dict[str, Any]] = []
    for name, size, described in SnapshotStore(Home.resolve(home).snapshots).entries():
        row: dict[str, Any] = {"id": name, "bytes": size}
        if isinstance(described, Manifest):
            row |= {"function": described.key.get("function"), "key": described.key, "damage": None}
            row |= {"created_at": described.created_at, "memory_bytes": described.data_bytes}
        else:
            row |= {"function": None, "key": None, "damage": described, "created_at": None, "memory_bytes": None}
        rows.append(row)
    return rows


@snapshot.command("ls")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_snapshots(home: str | None, as_json: bool) -> None:
    """List the snapshots."""
    rows = _rows(home)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    cells = [
        [
            row["id"][:12],
            printable(str(row["function"] or row["damage"])),
            f"{row['bytes'] / (1 << 20):.1f} MiB",
            datetime.fromtimestamp(row["created_at"]).strftime("%Y-%m-%d %H:%M:%S") if row["created_at"] else None,
        ]
        for row in rows
    ]
    click.echo(table(["ID", "FUNCTION", "SIZE", "MADE"], cells))


@snapshot.command()
@click.argument("name")
@home_option
def inspect(name: str, home: str | None) -> None:
    """Print what snapshot NAME (an id's beginning, or a function) says of itself, as JSON. Verifies nothing."""
    rows = [row for row in _rows(home) if row["id"].startswith(name) or row["function"] == name]
    if not rows:
        raise KasokuError(f"no snapshot {name!r}; `kasoku snapshot ls` lists them")
    click.echo(json.dumps(rows, indent=2))


@snapshot.command("rm")
@click.argument("name")
@home_option
def remove(name: str, home: str | None) -> None:
    """Delete snapshot NAME (an id's beginning, or a function). A server that runs keeps what it has opened."""
    from kasoku.home import Home
    from kasoku.node.snapshots.store import SnapshotStore

    removed = SnapshotStore(Home.resolve(home).snapshots).remove_named(name)
    if not removed:
        raise KasokuError(f"no snapshot {name!r}; `kasoku snapshot ls` lists them")
    for one in removed:
        click.echo(one)
