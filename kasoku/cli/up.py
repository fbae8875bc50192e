"""`kasoku up`: run the platform."""

import asyncio
from pathlib import Path

import click

from kasoku.cli.terminal import home_option


@click.command()
@home_option
@click.option("--host", default=None, help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=int, default=None, help="Port to listen on; 0 takes a free one. [default: 8765]")
@click.option("--allow-host", multiple=True, help="A further name under which clients may call this gateway.")
@click.option(
    "--memory", type=int, default=None, help="MiB for all instances together. [default: 85 % of the machine's]"
)
@click.option("--require-keys", is_flag=True, help="Ask for keys on the loopback interface too, from the start.")
@click.option("--region", default=None, help="The region that SigV4 signatures must name. [default: any]")
@click.option(
    "--cpu-devices",
    type=click.IntRange(0, 64),
    default=0,
    help="Offer each CPU device as that many, each with processors of its own. [default: as it is]",
)
@click.option("--native-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), default=None, hidden=True)
@click.option("--snapshots/--no-snapshots", default=True, show_default=True, help="Start functions from snapshots.")
def up(
    home: str | None,
    host: str | None,
    port: int | None,
    allow_host: tuple[str, ...],
    memory: int | None,
    require_keys: bool,
    region: str | None,
    cpu_devices: int,
    native_dir: Path | None,
    snapshots: bool,
) -> None:
    """Run the gateway and the node agent of this machine, until Ctrl-C or SIGTERM.

    Options override `config.toml` of the state directory and KASOKU_... variables; see `kasoku config show`.
    """
    import uvloop

    from kasoku.config import load
    from kasoku.gateway.platform import Platform
    from kasoku.gateway.server import ServerOptions, serve
    from kasoku.home import Home
    from kasoku.node.native import Native
    from kasoku.node.store import StoreLayers
    from kasoku.telemetry.log import set_up

    where = Home.resolve(home)
    config = load(where).config
    set_up(json=config.log_format == "json")

    def ready(url: str, platform: Platform) -> None:
        devices = ", ".join(d.full_id for d in platform.controller.leases.devices.values())
        click.echo(f"kasoku listens on {url} (state in {where.path})")
        click.echo(f"accelerators: {devices or f'none. {platform.node.device_error}'.strip()}")

    options = ServerOptions(
        home=where,
        host=config.host if host is None else host,
        port=config.port if port is None else port,
        allow_hosts=(*config.allow_hosts, *allow_host),
        native=Native(native_dir, cpu_devices),
        memory_mib=(config.memory_mib if memory is None else memory) or None,
        require_keys=require_keys or config.require_keys,
        region=region or config.region or None,
        drain_seconds=config.drain_seconds,
        device_hour_price=config.device_hour_price,
        keep_results_hours=config.keep_results_hours,
        max_async_running=config.max_async_running,
        blob_mib=config.blob_mib,
        keep_blobs_hours=config.keep_blobs_hours,
        json_logs=config.log_format == "json",
        otlp_endpoint=config.otlp_endpoint or None,
        snapshots=snapshots,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, StoreLayers(where), ready))
