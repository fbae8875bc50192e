"""`kasoku config`: what the server is configured to, and why."""

from dataclasses import asdict

import click

from kasoku.cli.terminal import home_option, table
from kasoku.config import describe, load
from kasoku.home import Home


@click.group()
def config() -> None:
    """Look at the server's configuration: config.toml of the state directory, then KASOKU_... variables."""


@config.command()
@home_option
def show(home: str | None) -> None:
    """Print every setting, its value, where that was said, and what is allowed."""
    loaded = load(Home.resolve(home))
    values = asdict(loaded.config)
    rows = [
        [name, _text(values[name]), loaded.sources.get(name, "default"), allowed] for name, _, allowed in describe()
    ]
    click.echo(table(["SETTING", "VALUE", "SAID IN", "ALLOWED"], rows))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)
