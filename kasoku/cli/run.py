"""`kasoku run FILE.py::function`: run a function in a VM of its own, without a server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from kasoku.cli.terminal import home_option, printable
from kasoku.sdk.errors import FunctionError, KasokuError, ServiceError


@click.command()
@click.argument("target", metavar="FILE.py::FUNCTION")
@home_option
@click.option("--arg", multiple=True, metavar="NAME=VALUE", help="An argument; the value is JSON, or text as it is.")
@click.option("--event", default=None, help="The whole event, as JSON.")
@click.option("--include", multiple=True, type=click.Path(path_type=Path), help="A further file or directory.")
@click.option("-v", "--verbose", is_flag=True, help="Show on standard error where the time went.")
def run(
    target: str, home: str | None, arg: tuple[str, ...], event: str | None, include: tuple[Path, ...], verbose: bool
) -> None:
    """Run one function of FILE once, in a virtual machine, and print its result as JSON."""
    from kasoku.cli.bundle import bundle
    from kasoku.home import Home
    from kasoku.sdk.source import read_declarations

    name, separator, function = target.partition("::")
    file = Path(name).resolve()
    if not separator:
        raise KasokuError(f"{target}: write FILE.py::FUNCTION")
    declared = [d for d in read_declarations(file) if function in (d.name, d.handler.rpartition(".")[2])]
    if not declared:
        raise KasokuError(f"{file.name} declares no function {function!r} with @app.function")
    code = bundle(file, [path.resolve() for path in include])
    payload = json.dumps(_event(arg, event)).encode()
    outcome = asyncio.run(_run(Home.resolve(home), declared[0], code, payload))
    click.echo(printable(outcome["log"]), err=True, nl=False)
    if verbose:
        click.echo(json.dumps(outcome["timings"], indent=2), err=True)
    if error := outcome["error"]:
        raise FunctionError(error["errorType"], error["errorMessage"], error.get("stackTrace") or ())
    click.echo(json.dumps(json.loads(outcome["result"]), indent=2))


async def _run(home: Any, declared: Any, code: bytes, payload: bytes) -> dict[str, Any]:
    """What a server does for one call, on the same parts."""
    from kasoku.controller.controller import Controller
    from kasoku.gateway.deploy import Code, Deployer
    from kasoku.gateway.platform import new_request_id, secret_values
    from kasoku.leases.table import LeaseTable
    from kasoku.node.agent import NodeAgent
    from kasoku.node.errors import FunctionFailed, PlatformError
    from kasoku.node.native import Native
    from kasoku.node.outcome import Invocation
    from kasoku.node.site import Site
    from kasoku.node.store import StoreLayers
    from kasoku.registry.secrets import SecretStore
    from kasoku.registry.store import Registry
    from kasoku.telemetry.events import Events

    layers = StoreLayers(home.make())
    registry = Registry(home.state_db)
    secrets = SecretStore(registry)
    site = Site(home, Native(), layers.path, layers.volume, lambda function: secret_values(secrets, function))
    node = NodeAgent(site, snapshots=False)
    wants_device = declared.options.accelerator is not None
    devices = await node.find_devices() if wants_device else []
    controller = Controller(node, LeaseTable(devices, first_epoch=registry.next_generation() << 32), Events())
    try:
        deployer = Deployer(layers, home)
        plan = deployer.check(declared.name, declared.handler, declared.options.to_json())
        function = await deployer.build(plan, Code(code))
        served = await controller.invoke(function, Invocation(new_request_id(), payload))
    except FunctionFailed as error:
        log = error.log.decode(errors="backslashreplace")
        return {"log": log, "timings": {}, "error": error.failure.to_json(), "result": b"null"}
    except PlatformError as error:
        raise ServiceError(error.code, error.message, 500) from None
    finally:
        await controller.close()
        await node.close()
        registry.close()
    outcome = served.outcome
    return {
        "log": outcome.log.decode(errors="backslashreplace"),
        "timings": {name: round(value, 3) for name, value in served.timings.items()},
        "error": outcome.failure.to_json() if outcome.failure else None,
        "result": outcome.payload or b"null",
    }


def _event(arguments: tuple[str, ...], event: str | None) -> Any:
    if event is not None:
        if arguments:
            raise KasokuError("give either --event or --arg")
        try:
            return json.loads(event)
        except ValueError as error:
            raise KasokuError(f"--event is not JSON: {error}") from None
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name:
            raise KasokuError(f"--arg {argument}: write NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
