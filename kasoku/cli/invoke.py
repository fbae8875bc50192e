"""`kasoku invoke`: call a function and print what it returns."""

import json
import sys
from pathlib import Path

import click

from kasoku.cli.terminal import home_option, printable
from kasoku.sdk.errors import FunctionError, KasokuError
from kasoku.sdk.remote import Gateway


@click.command()
@click.argument("name")
@click.argument("payload", required=False)
@home_option
@click.option("--payload", "payload_option", default=None, help="JSON, @FILE, or - for standard input.")
@click.option("--async", "asynchronous", is_flag=True, help="Do not wait: print the id of the call (`kasoku calls`).")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show on standard error where the function ran and where the time went."
)
def invoke(
    name: str, payload: str | None, home: str | None, payload_option: str | None, asynchronous: bool, verbose: bool
) -> None:
    """Invoke function NAME and print its result as JSON. Exit status 1 if it fails, its log on standard error."""
    if payload is not None and payload_option is not None:
        raise KasokuError("give the payload once")
    text = _read(payload_option if payload is None else payload)
    gateway = Gateway.find(home)
    if asynchronous:
        click.echo(gateway.spawn_raw(name, text))
        return
    try:
        answer = gateway.invoke_raw(name, text)
    except FunctionError as error:
        click.echo(printable(error.detail.get("log", "")), err=True, nl=False)
        raise
    if verbose:
        _show(answer.detail)
    # JSON escapes every control character, so a result cannot reach the terminal raw.
    click.echo(json.dumps(answer.result, indent=2))


def _show(detail: dict[str, object]) -> None:
    click.echo(printable(str(detail.get("log", ""))), err=True, nl=False)
    shown = {
        key: detail[key] for key in ("cold", "instance", "accelerator", "timings_ms", "phases_ms") if key in detail
    }
    click.echo(json.dumps(shown, indent=2), err=True)


def _read(payload: str | None) -> bytes:
    if payload is None:
        return b"{}"
    if payload == "-":
        return sys.stdin.buffer.read()
    if payload.startswith("@"):
        try:
            return Path(payload[1:]).read_bytes()
        except OSError as error:
            raise KasokuError(f"{payload[1:]}: {error.strerror}") from None
    return payload.encode()
