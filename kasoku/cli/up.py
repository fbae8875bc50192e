"""`kasoku up`: run the platform."""

import asyncio
from pathlib import Path

import click

from kasoku.cli.terminal import home_option


@click.command()
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8765, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--allow-host", multiple=True, help="A further name under which clients may call this gateway.")
@click.option(
    "--memory", type=int, default=None, help="MiB for all instances together. [default: 85 % of the machine's]"
)
@click.option("--native-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None, hidden=True)
@click.option("--snapshots/--no-snapshots", default=True, show_default=True, help="Start functions from snapshots.")
def up(
    home: str | None,
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    memory: int | None,
    native_dir: Path | None,
    snapshots: bool,
) -> None:
    """Run the gateway and the node agent of this machine, until Ctrl-C or SIGTERM."""
    import uvloop

    from kasoku.gateway.platform import Platform
    from kasoku.gateway.server import ServerOptions, serve
    from kasoku.home import Home
    from kasoku.node.native import Native
    from kasoku.node.store import StoreLayers

    where = Home.resolve(home)

    def ready(url: str, platform: Platform) -> None:
        devices = ", ".join(d.full_id for d in platform.controller.leases.devices.values())
        click.echo(f"kasoku listens on {url} (state in {where.path})")
        click.echo(f"accelerators: {devices or f'none. {platform.node.device_error}'.strip()}")

    options = ServerOptions(where, host, port, allow_host, Native(native_dir), memory, snapshots)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, StoreLayers(where), ready))
