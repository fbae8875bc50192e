"""`kasoku logs`: what a function printed."""

import time
from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, printable
from kasoku.sdk.remote import Gateway

FOLLOW_SECONDS = 0.25


@click.command()
@click.argument("name")
@home_option
@click.option("--bytes", "limit", default=65536, show_default=True, help="How much of the end to show.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what it prints.")
def logs(name: str, home: str | None, limit: int, follow: bool) -> None:
    """Print the end of function NAME's log."""
    gateway = Gateway.find(home)
    path = f"/v1/functions/{quote(name, safe='')}"
    gateway.json("GET", path)  # says it clearly if there is no such function
    _, headers, data = gateway.request("GET", f"{path}/logs?bytes={limit}")
    _show(data)
    while follow:
        time.sleep(FOLLOW_SECONDS)
        position = headers["x-kasoku-position"]
        _, headers, data = gateway.request("GET", f"{path}/logs?after={position}")
        _show(data)


def _show(data: bytes) -> None:
    if data:
        click.echo(printable(data.decode(errors="backslashreplace")), nl=False)
