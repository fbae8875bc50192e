"""Commands for what names a function's versions: published numbers and aliases."""

from typing import Any
from urllib.parse import quote

import click

from kasoku.cli.terminal import home_option, table
from kasoku.sdk.errors import KasokuError
from kasoku.sdk.remote import Gateway


def _path(name: str, *more: str) -> str:
    return "/".join(["/v1/functions", quote(name, safe=""), *(quote(part, safe="") for part in more)])


@click.command()
@click.argument("name")
@home_option
@click.option("--description", default=None, help="What is new in this version.")
def publish(name: str, home: str | None, description: str | None) -> None:
    """Give the current version of function NAME a number by which it stays callable (NAME:NUMBER)."""
    body = {} if description is None else {"description": description}
    answer = Gateway.find(home).json("POST", _path(name, "versions"), body)
    click.echo(f"{name}:{answer['number']}")


@click.command()
@click.argument("name")
@home_option
def versions(name: str, home: str | None) -> None:
    """List the versions and aliases of function NAME."""
    record = Gateway.find(home).json("GET", _path(name))
    labels: dict[str, list[str]] = {}
    for alias, told in record["aliases"].items():
        labels.setdefault(told["version"], []).append(alias)
        for version, weight in told["weights"].items():
            labels.setdefault(version, []).append(f"{alias} ({weight:.0%})")
    rows: list[list[Any]] = [["$LATEST", record["version"][:12], ", ".join(labels.get("$LATEST", []))]]
    rows += [[n, version[:12], ", ".join(labels.get(n, []))] for n, version in record["published"].items()]
    click.echo(table(["VERSION", "CONTENT", "ALIASES"], rows))


@click.command()
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.argument("version", required=False)
@home_option
@click.option("--weight", multiple=True, metavar="VERSION=SHARE", help="Send a share (0 to 1) of calls elsewhere.")
@click.option("--remove", is_flag=True, help="Forget the alias.")
def alias(
    name: str, alias_name: str, version: str | None, home: str | None, weight: tuple[str, ...], remove: bool
) -> None:
    """Let ALIAS of function NAME lead to VERSION: NAME:ALIAS can be called like NAME."""
    gateway = Gateway.find(home)
    if remove:
        gateway.json("DELETE", _path(name, "aliases", alias_name))
        return
    if version is None:
        raise KasokuError("say which version: a number that `kasoku publish` gave, or $LATEST")
    weights = dict(_share(text) for text in weight)
    gateway.json("PUT", _path(name, "aliases", alias_name), {"version": version, "weights": weights})


def _share(text: str) -> tuple[str, float]:
    version, _, share = text.partition("=")
    try:
        return version, float(share)
    except ValueError:
        raise KasokuError(f"--weight {text}: write VERSION=SHARE, such as 3=0.1") from None
