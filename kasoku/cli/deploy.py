"""`kasoku deploy`: functions from a file, which is read, never run."""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import click

from kasoku.cli.terminal import home_option
from kasoku.sdk.errors import DeclarationError, KasokuError
from kasoku.sdk.options import check_name, parse_options


class Target(NamedTuple):
    """A function to deploy."""

    name: str
    handler: str
    options: dict[str, Any]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@home_option
@click.option("--name", default=None, help="The function's name (with --handler, or for a file with one function).")
@click.option("--handler", default=None, metavar="MODULE.FUNCTION", help="For a file in Lambda's shape: what to call.")
@click.option(
    "--include", multiple=True, type=click.Path(path_type=Path), help="A further file or directory to send along."
)
@click.option("--image", default=None, help="With --handler: the image to start from.")
@click.option("--requirement", multiple=True, help="With --handler: a package, such as 'numpy>=2'.")
@click.option("--accelerator", default=None, help="With --handler: such as opencl, opencl:gpu, opencl:intel:0.")
@click.option("--present", default=None, help="With --handler: say that the accelerator is a cpu, gpu or accelerator.")
@click.option("--lease", default=None, help="With --handler: wait, or refuse.")
@click.option("--memory", type=int, default=None, help="With --handler: MiB of memory.")
@click.option("--timeout", type=float, default=None, help="With --handler: seconds that an invocation may take.")
@click.option("--warmup", default=None, metavar="JSON", help="With --handler: an event to run before the snapshot.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="With --handler: an environment variable.")
def deploy(
    file: Path,
    home: str | None,
    name: str | None,
    handler: str | None,
    include: tuple[Path, ...],
    requirement: tuple[str, ...],
    env: tuple[str, ...],
    **options: Any,
) -> None:
    """Deploy the functions of FILE: those under @app.function, or the one that --handler names."""
    from kasoku.cli.bundle import bundle
    from kasoku.sdk.remote import Gateway

    given = {key: value for key, value in options.items() if value is not None}
    if "warmup" in given:
        given["warmup"] = _event(given["warmup"])
    if requirement:
        given["requirements"] = list(requirement)
    if env:
        given["env"] = dict(_pair(text) for text in env)
    file = file.resolve()
    targets = find_targets(file, name, handler, given)
    gateway = Gateway.find(home)
    code = {"zip": base64.b64encode(bundle(file, [path.resolve() for path in include])).decode()}
    for target in targets:
        body = {"handler": target.handler, "options": target.options, "code": code}
        answer = gateway.json("PUT", f"/v1/functions/{target.name}", body)
        click.echo(f"{answer['name']}  version {answer['version'][:12]}  handler {answer['handler']}")


def find_targets(file: Path, name: str | None, handler: str | None, options: dict[str, Any]) -> list[Target]:
    """What to deploy from a file. Raises KasokuError that says how to call it right."""
    if handler:
        chosen = check_name(name or handler.rpartition(".")[0] or file.stem)
        return [Target(chosen, handler, parse_options(options).to_json())]
    if options:
        flags = ", ".join(f"--{key}" for key in options)
        raise KasokuError(f"{flags}: write these options into @app.function, or name a --handler")
    from kasoku.sdk.source import read_declarations

    declared = read_declarations(file)
    if not declared:
        reason = "declares no function with @app.function; for a file in Lambda's shape say --handler MODULE.FUNCTION"
        raise DeclarationError(file.name, None, reason)
    if name and len(declared) > 1:
        raise KasokuError(
            f"--name {name}: {file.name} declares {len(declared)} functions; give them names in @app.function"
        )
    return [Target(check_name(name or d.name), d.handler, d.options.to_json()) for d in declared]


def _event(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise KasokuError(f"--warmup {text}: not JSON: {error}") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise KasokuError(f"--env {text}: write NAME=VALUE")
    return name, value
