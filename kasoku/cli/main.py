"""The command's table of sub-commands. Each is loaded when it is called: `kasoku ls` does not pay for the server."""

import importlib
import sys

import click

from kasoku.sdk.errors import KasokuError

COMMANDS = {
    "up": "kasoku.cli.up:up",
    "run": "kasoku.cli.run:run",
    "deploy": "kasoku.cli.deploy:deploy",
    "invoke": "kasoku.cli.invoke:invoke",
    "logs": "kasoku.cli.logs:logs",
    "ls": "kasoku.cli.listing:ls",
    "ps": "kasoku.cli.listing:ps",
    "devices": "kasoku.cli.listing:devices",
    "leases": "kasoku.cli.listing:leases",
    "rm": "kasoku.cli.listing:rm",
    "publish": "kasoku.cli.versions:publish",
    "versions": "kasoku.cli.versions:versions",
    "alias": "kasoku.cli.versions:alias",
    "keys": "kasoku.cli.keys:keys",
    "tenants": "kasoku.cli.tenants:tenants",
    "secret": "kasoku.cli.secret:secret",
    "config": "kasoku.cli.config:config",
    "calls": "kasoku.cli.calls:calls",
    "schedule": "kasoku.cli.schedule:schedule",
    "events": "kasoku.cli.watching:events",
    "usage": "kasoku.cli.watching:usage",
    "top": "kasoku.cli.watching:top",
    "image": "kasoku.images.cli:image",
    "snapshot": "kasoku.cli.snapshot:snapshot",
    "volume": "kasoku.volumes.cli:volume",
    "doctor": "kasoku.cli.doctor:doctor",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kasoku", prog_name="kasoku")
def cli() -> None:
    """Serverless functions in unikernels, each with an accelerator of its own.

    `kasoku exec [OPTIONS] -- PROGRAM ARG...` runs any program in a unikernel; `kasoku exec --help` tells its options.
    """


def main() -> None:
    """Run the command; errors that Kasoku explains are one line on standard error, exit status 1."""
    try:
        cli(prog_name="kasoku")
    except KasokuError as error:
        from kasoku.cli.terminal import printable

        click.echo(f"kasoku: {printable(str(error))}", err=True)
        sys.exit(1)
