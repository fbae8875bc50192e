"""Commands that show or drop what there is: functions, instances, devices."""

import asyncio
import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, table
from kasoku.sdk.errors import KasokuError
from kasoku.sdk.remote import Gateway

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _print(rows: list[dict[str, Any]], columns: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(table(list(columns), [[row.get(key) for key in columns.values()] for row in rows]))


@click.command()
@home_option
@json_option
def ls(home: str | None, as_json: bool) -> None:
    """List the deployed functions."""
    rows = Gateway.find(home).json("GET", "/v1/functions")
    if not as_json:
        for row in rows:
            options = row["options"]
            row.update(
                short=row["version"][:12],
                accelerator=options["accelerator"],
                memory=f"{options['memory']} MiB",
                deployed=datetime.fromtimestamp(row["deployed_at"]).strftime("%Y-%m-%d %H:%M:%S"),
            )
    columns = {
        "NAME": "name",
        "VERSION": "short",
        "HANDLER": "handler",
        "ACCELERATOR": "accelerator",
        "MEMORY": "memory",
    }
    _print(rows, {**columns, "DEPLOYED": "deployed"}, as_json)


@click.command()
@home_option
@json_option
def ps(home: str | None, as_json: bool) -> None:
    """List the running instances."""
    rows = Gateway.find(home).json("GET", "/v1/instances")
    columns = {
        "ID": "id",
        "FUNCTION": "function",
        "STATE": "state",
        "START": "start",
        "VMM": "vmm_pid",
        "BROKER": "broker_pid",
    }
    columns |= {"ACCELERATOR": "accelerator", "MEMORY": "memory_mib", "OWN": "private_mib", "SHARED": "shared_mib"}
    columns |= {"CALLS": "invocations", "AGE": "age_s"}
    _print(rows, columns, as_json)


@click.command()
@home_option
@json_option
def devices(home: str | None, as_json: bool) -> None:
    """List the accelerators of this machine, and who holds them if a server runs."""
    try:
        answer = Gateway.find(home).json("GET", "/v1/devices")
    except KasokuError:
        answer = _ask_broker()
    if answer["error"] and not answer["devices"]:
        raise KasokuError(answer["error"])
    columns = {
        "ID": "id",
        "KIND": "kind",
        "NAME": "name",
        "VENDOR": "vendor",
        "VERSION": "version",
        "HELD BY": "held_by",
        "STANDBY": "standby",
    }
    _print(answer["devices"], columns, as_json)


@click.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def leases(home: str | None, as_json: bool) -> None:
    """List who holds which device, and who waits for one, first of the line first."""
    told = Gateway.find(home).json("GET", "/v1/leases")
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    columns = {"DEVICE": "device", "FUNCTION": "function", "INSTANCE": "instance", "PRIORITY": "priority"}
    _print(told["holders"], {**columns, "IDLE": "idle", "HELD S": "held_s", "LEFT S": "left_s"}, False)
    if told["waiters"]:
        click.echo()
        columns = {"WANTS": "wants", "FUNCTION": "function", "INSTANCE": "instance", "PRIORITY": "priority"}
        _print(told["waiters"], {**columns, "SUSPENDED": "suspended", "WAITS S": "waits_s", "LEFT S": "left_s"}, False)


def _ask_broker() -> dict[str, Any]:
    from kasoku.node.broker import list_devices
    from kasoku.node.errors import PlatformError
    from kasoku.node.native import Native

    try:
        return {"devices": asyncio.run(list_devices(Native())), "error": None}
    except PlatformError as error:
        raise KasokuError(error.message) from None


@click.command()
@click.argument("name")
@home_option
def rm(name: str, home: str | None) -> None:
    """Remove function NAME, its versions and its log."""
    Gateway.find(home).json("DELETE", f"/v1/functions/{quote(name, safe='')}")
