"""The OpenCL implementations of this machine, and programs that use one natively and in a guest, side by side."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from common import kasoku_command as kasoku
from common.conversation import Conversation
from kasoku.node.broker import list_devices
from kasoku.node.native import Native

_VENDORS = Path("/etc/OpenCL/vendors")
_PROGRAMS = Path(__file__).resolve().parent.parent
#: What programs that use OpenCL import.
_PACKAGES = ("numpy", "pyopencl")


@dataclass(frozen=True)
class Implementation:
    """One that both sides can use: the device's id for a lease, a short name, the environment of a native program."""

    device: str
    name: str
    environment: dict[str, str]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds what benchmarks of OpenCL have in common."""
    parser.add_argument("--runtime", action="append", metavar="NAME", help="e.g. pocl, may be repeated [all there are]")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep the image and the environment there for next time"
    )
    parser.add_argument("--prepare", action="store_true", help="only make the image and the environment, with --work")


def side_by_side(
    program: str, chosen: argparse.Namespace, guest_options: Sequence[str] = ()
) -> Iterator[tuple[Implementation, dict[str, Conversation]]]:
    """Yields each implementation that was asked for, with the same program running natively and in a guest that has it.

    `program` is a file of this folder's parent. Ends the benchmark where there is no such implementation.
    """
    kasoku.require()
    with ExitStack() as stack:
        work: Path = chosen.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        guest = kasoku.build_image(work / "home", "bench", requirements=_PACKAGES, tree=_PROGRAMS)
        python = str(work / "venv" / "bin" / "python3")
        if not Path(python).exists():
            kasoku.native_python(work / "venv", requirements=_PACKAGES)
        found = implementations(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        wanted = [one for one in found if chosen.runtime is None or one.name in chosen.runtime]
        if not wanted:
            names = ", ".join(one.name for one in found) or "none: run `make setup`, which installs one"
            sys.exit(f"no such OpenCL implementation; found: {names}")
        for implementation in [] if chosen.prepare else wanted:
            native = [python, str(_PROGRAMS / program)]
            accelerator = ["--accelerator", f"opencl:{implementation.device}", "-i", "--"]
            inside = [*guest, *guest_options, "-e", "PYTHONPATH=/bench", *accelerator, "python3", f"/bench/{program}"]
            environment = {**implementation.environment, "PYTHONPATH": str(_PROGRAMS)}
            with Conversation(native, environment) as here, Conversation(inside) as there:
                yield implementation, {"native": here, "kasoku": there}


def implementations(folder: Path) -> list[Implementation]:
    """Returns the implementations that Kasoku offers and whose library a native program can be pointed to.

    The first device of each. `folder` is where registrations for the native side are written.
    """
    found: dict[str, Implementation] = {}
    for listed in asyncio.run(list_devices(Native())):
        device = str(listed["id"])
        name = device.rsplit(":", 1)[0]
        library = _library(name)
        if name in found or library is None:
            continue
        vendors = folder / f"vendors-{name}"
        vendors.mkdir()
        (vendors / "only.icd").write_text(f"{library}\n")
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OCL_ICD_VENDORS": str(vendors)}
        if Path(library).is_absolute():
            environment["LD_LIBRARY_PATH"] = str(Path(library).parent)
        found[name] = Implementation(device, name, environment)
    return list(found.values())


def _library(name: str) -> str | None:
    if name == "intel":
        installed = Path(sys.prefix) / "lib" / "libintelocl.so"
        return str(installed) if installed.is_file() else None
    for registration in sorted(_VENDORS.glob("*.icd")):
        library = registration.read_text().strip()
        if Path(library).name.startswith(f"lib{name}"):
            return library
    return None
