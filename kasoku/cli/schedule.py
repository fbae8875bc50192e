"""`kasoku schedule`: functions that run at times."""

import json
from datetime import datetime
from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, table
from kasoku.sdk.errors import KasokuError
from kasoku.sdk.remote import Gateway


@click.group()
def schedule() -> None:
    """Run functions at times: cron's five fields, or every so often."""


@schedule.command()
@click.argument("name")
@click.argument("function")
@click.argument("expression")
@home_option
@click.option("--timezone", default="UTC", show_default=True, help="Whose clock cron's fields mean.")
@click.option("--payload", default="{}", help="The event, as JSON.")
def add(name: str, function: str, expression: str, home: str | None, timezone: str, payload: str) -> None:
    """Let schedule NAME call FUNCTION at the times of EXPRESSION, such as '0 9 * * 1-5' or 'rate(5 minutes)'."""
    try:
        event = json.loads(payload)
    except ValueError as error:
        raise KasokuError(f"--payload is not JSON: {error}") from None
    body = {"function": function, "schedule": expression, "timezone": timezone, "payload": event}
    made = Gateway.find(home).json("PUT", f"/v1/schedules/{quote(name, safe='')}", body)
    click.echo(f"{name}: next {_when(made['next_at'])}")


@schedule.command()
@home_option
def ls(home: str | None) -> None:
    """List the schedules."""
    rows = [
        [s["name"], s["function"], s["schedule"], s["timezone"], _when(s["next_at"])]
        for s in Gateway.find(home).json("GET", "/v1/schedules")
    ]
    click.echo(table(["NAME", "FUNCTION", "SCHEDULE", "ZONE", "NEXT"], rows))


@schedule.command()
@click.argument("name")
@home_option
def rm(name: str, home: str | None) -> None:
    """Forget schedule NAME."""
    Gateway.find(home).json("DELETE", f"/v1/schedules/{quote(name, safe='')}")


def _when(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")
