"""Commands for asynchronous calls."""

import json
from datetime import datetime
from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, table
from kasoku.sdk.remote import Gateway


@click.group()
def calls() -> None:
    """Look at asynchronous calls, or end them. `kasoku invoke --async` makes one."""


@calls.command()
@home_option
@click.option("--function", default=None, help="Only calls of this function.")
@click.option("--state", default=None, help="queued, running, done, failed or cancelled.")
@click.option("--limit", default=50, show_default=True)
def ls(home: str | None, function: str | None, state: str | None, limit: int) -> None:
    """List the latest calls."""
    asked = {"function": function, "state": state, "limit": str(limit)}
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in asked.items() if value)
    rows = [
        [
            call["id"],
            call["function"],
            call["state"],
            f"{call['attempts']}/{call['max_attempts']}",
            datetime.fromtimestamp(call["accepted_at"]).strftime("%Y-%m-%d %H:%M:%S"),
            (call.get("error") or {}).get("errorType"),
        ]
        for call in Gateway.find(home).json("GET", f"/v1/calls?{query}")
    ]
    click.echo(table(["ID", "FUNCTION", "STATE", "TRIES", "ACCEPTED", "ERROR"], rows))


@calls.command()
@click.argument("id")
@home_option
@click.option("--wait", default=0.0, help="Seconds to wait for its end, at most 60.")
def show(id: str, home: str | None, wait: float) -> None:
    """Print call ID with its result or error."""
    told = Gateway.find(home).json("GET", f"/v1/calls/{quote(id, safe='')}?wait={wait}")
    click.echo(json.dumps(told, indent=2))


@calls.command()
@click.argument("id")
@home_option
def cancel(id: str, home: str | None) -> None:
    """End call ID, whether it waits or runs."""
    told = Gateway.find(home).json("DELETE", f"/v1/calls/{quote(id, safe='')}")
    click.echo("cancelled" if told["cancelled"] else "it had ended before")
