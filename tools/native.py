"""Builds everything of Kasoku that is not Python and stages it in one folder.

`stage()` is used by the wheel hook and by `make native`. It needs cargo, a C compiler as linker and the standard
library of the guest's target; it needs no package from an index, because a wheel build has none.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GUEST_TARGET = "x86_64-unknown-none"


@dataclass(frozen=True)
class Component:
    """One thing that cargo makes: the name and kind of its target, and the triple that it is built for."""

    name: str
    kind: str
    triple: str | None
    installed_as: str


#: All binaries and libraries of the product. `kasoku` goes to bin/, the rest to `kasoku/_native/`.
COMPONENTS = (
    Component("kasoku", "bin", None, "kasoku"),
    Component("kasoku-vmm", "bin", None, "kasoku-vmm"),
    Component("kasoku-fsproxy", "bin", None, "kasoku-fsproxy"),
    Component("kasoku-broker", "bin", None, "kasoku-broker"),
    Component("kasoku-libos", "bin", GUEST_TARGET, "kasoku-libos"),
    Component("kasoku_opencl", "cdylib", None, "libkasoku_opencl.so"),
)
LAUNCHER = "kasoku"
OPENCL_LIBRARY = "libkasoku_opencl.so"


class BuildError(Exception):
    """Says what is missing for the build and what to do about it."""


def cargo_packages() -> dict[tuple[str, str], str]:
    """Maps (target name, kind) to the cargo package of the workspace that has it."""
    command = ["cargo", "metadata", "--format-version=1", "--no-deps"]
    metadata: dict[str, Any] = json.loads(_output(command))
    return {
        (target["name"], kind): package["name"]
        for package in metadata["packages"]
        for target in package["targets"]
        for kind in target["kind"]
    }


def require_guest_target() -> None:
    """Adds the guest's target to the Rust installation where rustup is there to do it.

    `targets` in a rust-toolchain.toml would install it only where rustup may install by itself, so it is asked for
    here.
    """
    libdir = Path(_output(["rustc", "--print", "target-libdir", "--target", GUEST_TARGET]).strip())
    if any(libdir.glob("libcore-*.rlib")):
        return
    advice = f"the library OS is built for {GUEST_TARGET}: install rustup and run `rustup target add {GUEST_TARGET}`"
    if shutil.which("rustup") is None:
        raise BuildError(f"{advice} (a Rust without rustup needs its distribution's package for that target)")
    print(f"adding the Rust target {GUEST_TARGET}", flush=True)
    if subprocess.run(["rustup", "target", "add", GUEST_TARGET], cwd=ROOT, check=False).returncode != 0:
        raise BuildError(f"`rustup target add {GUEST_TARGET}` failed; {advice}")


def build(components: tuple[Component, ...] = COMPONENTS) -> tuple[dict[str, Path], list[BuildError]]:
    """Compiles the components, optimised.

    Returns where each one lies (by the name that it is installed as), and what went wrong: a library OS that does not
    compile does not stop the host's part.
    """
    if shutil.which("cargo") is None:
        raise BuildError(
            "cargo was not found: Kasoku's virtual machine monitor is written in Rust; install it with rustup"
        )
    packages = cargo_packages()
    missing = [c.name for c in components if (c.name, c.kind) not in packages]
    if missing:
        raise BuildError(f"this source tree is incomplete: it has no {', '.join(missing)}")
    if any(c.triple == GUEST_TARGET for c in components):
        require_guest_target()
    made: dict[str, Path] = {}
    errors: list[BuildError] = []
    for triple in dict.fromkeys(c.triple for c in components):
        of_triple = [c for c in components if c.triple == triple]
        names = sorted({packages[c.name, c.kind] for c in of_triple})
        try:
            made |= _compile(names, triple, of_triple)
        except BuildError as error:
            errors.append(error)
    return made, errors


def _compile(packages: list[str], triple: str | None, components: list[Component]) -> dict[str, Path]:
    command = ["cargo", "build", "--release", "--locked", "--message-format=json-render-diagnostics"]
    command += [word for name in packages for word in ("-p", name)]
    command += ["--target", triple] if triple else []
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False, text=True)
    if process.returncode != 0:
        raise BuildError(f"`{' '.join(command)}` failed with exit code {process.returncode}")
    artifacts = dict(_artifacts(process.stdout))
    lost = [c.name for c in components if (c.name, c.kind) not in artifacts]
    if lost:
        raise BuildError(f"cargo reported no file for {', '.join(lost)}")
    return {c.installed_as: artifacts[c.name, c.kind] for c in components}


def _artifacts(output: str) -> Iterator[tuple[tuple[str, str], Path]]:
    for line in output.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("reason") != "compiler-artifact":
            continue
        target = message["target"]
        if message["executable"] and "bin" in target["kind"]:
            yield (target["name"], "bin"), Path(message["executable"])
        for name in message["filenames"]:
            if "cdylib" in target["kind"] and name.endswith(".so"):
                yield (target["name"], "cdylib"), Path(name)


def stage(native: Path, launchers: Path | None = None) -> Path | None:
    """Builds all and brings `native` up to date; files that did not change keep their times.

    With `launchers`, the launcher there is brought up to date too. Returns the launcher. Raises BuildError, after all
    that could be made is in place.
    """
    made, errors = build()
    native.mkdir(parents=True, exist_ok=True)
    for name, source in made.items():
        if name != LAUNCHER:
            _install(source, native / name)
    if launchers and LAUNCHER in made:
        _install(made[LAUNCHER], launchers / LAUNCHER)
    _runtime_layer(native, made.get(OPENCL_LIBRARY))
    if errors:
        raise BuildError("; ".join(str(error) for error in errors))
    return made.get(LAUNCHER)


def _runtime_layer(native: Path, opencl: Path | None) -> None:
    """Writes `runtime.erofs`, the layer on top of every image: the virtual libraries and the function runners."""
    layer = _load_package("kasoku_runtime_layer", ROOT / "kasoku" / "images" / "layer")
    temporary = native / "runtime.erofs.new"
    layer.write_runtime(temporary, opencl_library=opencl, runner=ROOT / "guest" / "runner", package=ROOT / "kasoku")
    target = native / "runtime.erofs"
    if target.exists() and filecmp.cmp(temporary, target, shallow=False):
        temporary.unlink()
    else:
        temporary.replace(target)


def _load_package(name: str, folder: Path) -> ModuleType:
    """Imports one package by its folder: its parent, `kasoku`, needs dependencies that a wheel build does not have."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise BuildError(f"{folder} is not a Python package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _install(source: Path, target: Path) -> None:
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return
    # A running program's file cannot be written to, but its name can be given to another file.
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, temporary)
    temporary.chmod(0o755)
    temporary.replace(target)


def _output(command: list[str]) -> str:
    try:
        process = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} was not found: install Rust with rustup") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"`{' '.join(command)}` failed: {error.stderr.strip()}") from None
    return process.stdout


def main() -> int:
    """Stages into the source tree, for editable installs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bin", type=Path, help="also bring the launcher in this folder up to date")
    arguments = parser.parse_args()
    try:
        stage(ROOT / "kasoku" / "_native", arguments.bin)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
