"""`kasoku secret`: values that functions get as environment variables and that lie encrypted on the disk."""

import sys
from datetime import datetime
from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, table
from kasoku.sdk.remote import Gateway


@click.group()
def secret() -> None:
    """Keep secrets for functions: @app.function(secrets=["NAME"])."""


@secret.command("set")
@click.argument("name")
@home_option
def set_secret(name: str, home: str | None) -> None:
    """Set secret NAME to what is typed or piped in. Instances that start from now on get it."""
    # Never an argument: those are in the shell's history and in every list of processes.
    value = click.prompt(name, hide_input=True) if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    Gateway.find(home).json("PUT", f"/v1/secrets/{quote(name, safe='')}", {"value": value})


@secret.command("ls")
@home_option
def list_secrets(home: str | None) -> None:
    """List the names of the secrets."""
    rows = Gateway.find(home).json("GET", "/v1/secrets")
    shown = [[row["name"], datetime.fromtimestamp(row["updated_at"]).strftime("%Y-%m-%d %H:%M:%S")] for row in rows]
    click.echo(table(["NAME", "SET"], shown))


@secret.command("rm")
@click.argument("name")
@home_option
def remove_secret(name: str, home: str | None) -> None:
    """Forget secret NAME."""
    Gateway.find(home).json("DELETE", f"/v1/secrets/{quote(name, safe='')}")
