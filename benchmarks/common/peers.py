"""Other ways to isolate a program, where they are installed: OCI run-times, given one bundle."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from common.kasoku_command import timed
from kasoku.images.elf import read_elf
from kasoku.images.libraries import closure

#: Their commands. Resource limits are not compared, and not every machine's control groups suit every run-time.
RUNTIMES = {"crun": ["crun", "--cgroup-manager=disabled"], "runsc": ["runsc", "--ignore-cgroups", "--network=none"]}


def runtimes(folder: Path, program: Path) -> dict[str, Callable[[], float]]:
    """Returns, for each run-time that is installed, a function that runs the program in it once (milliseconds).

    Run-times need root for what they do here; without it there are none.
    """
    found = [name for name in RUNTIMES if shutil.which(name)]
    if not found or os.geteuid() != 0:
        return {}
    _one_control_group_tree()
    bundle = _bundle(folder, program)
    number = itertools.count()

    def runner(name: str) -> Callable[[], float]:
        command = [*RUNTIMES[name], "run", "--bundle", str(bundle)]
        return lambda: timed([*command, f"kasoku-bench-{os.getpid()}-{next(number)}"])

    usable = {}
    for name in found:
        run = runner(name)
        try:
            run()
        except RuntimeError as error:
            print(f"{name} is left out: {error}")
        else:
            usable[name] = run
    return usable


def conversation(folder: Path, program: Path, name: str) -> list[str] | None:
    """Returns the command that runs the program in that run-time with this process's streams; None without it."""
    if shutil.which(name) is None or os.geteuid() != 0:
        return None
    _one_control_group_tree()
    return [*RUNTIMES[name], "run", "--bundle", str(_bundle(folder, program)), f"kasoku-bench-{os.getpid()}"]


def _one_control_group_tree() -> None:
    """Gives this process and its children a view with version 2 of control groups alone, where there are two.

    Not all run-times cope with both; the machine itself is left as it is.
    """
    if not Path("/sys/fs/cgroup/unified").is_dir():
        return
    clone_newns = 0x00020000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newns) != 0:
        return
    subprocess.run(["mount", "--make-rprivate", "/"], check=False)
    subprocess.run(["umount", "-l", "/sys/fs/cgroup"], check=False)
    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=False)


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
