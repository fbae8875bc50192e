"""The OpenCL implementations of this machine, and how a native program is given exactly one of them."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from kasoku.node.broker import list_devices
from kasoku.node.native import Native

_VENDORS = Path("/etc/OpenCL/vendors")


@dataclass(frozen=True)
class Implementation:
    """One that both sides can use: the device's id for a lease, a short name, the environment of a native program."""

    device: str
    name: str
    environment: dict[str, str]


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
