"""Other ways to isolate a program, where they are installed: OCI run-times, given one bundle."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from common.kasoku_command import timed
from kasoku.images.elf import read_elf
from kasoku.images.libraries import closure

RUNTIMES = ("crun", "runsc")


def runtimes(folder: Path, program: Path) -> dict[str, Callable[[], float]]:
    """Returns, for each run-time that is installed, a function that runs the program in it once (milliseconds).

    Run-times need root for what they do here; without it there are none.
    """
    found = [name for name in RUNTIMES if shutil.which(name)]
    if not found or os.geteuid() != 0:
        return {}
    bundle = _bundle(folder, program)
    number = itertools.count()

    def runner(name: str) -> Callable[[], float]:
        command = [name, "--network=none"] if name == "runsc" else [name]
        return lambda: timed([*command, "run", "--bundle", str(bundle), f"kasoku-bench-{os.getpid()}-{next(number)}"])

    return {name: runner(name) for name in found}


def _bundle(folder: Path, program: Path) -> Path:
    root = folder / "rootfs"
    for path in ("proc", "dev", "sys"):
        (root / path).mkdir(parents=True)
    found, _ = closure([program])
    loader = read_elf(program).interpreter
    files = {str(path): path for path in [program, *found.values()]} | ({loader: Path(loader)} if loader else {})
    for name, source in files.items():
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]
    config = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": [str(program)], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": namespaces},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
