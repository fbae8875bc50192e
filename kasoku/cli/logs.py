"""`kasoku logs`: what a function printed."""

from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, printable
from kasoku.sdk.remote import Gateway


@click.command()
@click.argument("name")
@home_option
@click.option("--bytes", "limit", default=65536, show_default=True, help="How much of the end to show.")
def logs(name: str, home: str | None, limit: int) -> None:
    """Print the end of function NAME's log."""
    gateway = Gateway.find(home)
    gateway.json("GET", f"/v1/functions/{quote(name, safe='')}")  # says it clearly if there is no such function
    _, _, data = gateway.request("GET", f"/v1/functions/{quote(name, safe='')}/logs?bytes={limit}")
    click.echo(printable(data.decode(errors="backslashreplace")), nl=False)
