"""The installed `kasoku`, and images made for a benchmark in a state directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

KASOKU = Path(sys.prefix) / "bin" / "kasoku"


def require() -> None:
    """Ends the benchmark with a clear message where it cannot run."""
    if not KASOKU.is_file():
        sys.exit(f"{KASOKU} is not there: run `make setup`, then this script with {sys.prefix}/bin/python")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("/dev/kvm cannot be opened: there is nothing to measure without it")


def timed(command: Sequence[str], *, env: dict[str, str] | None = None) -> float:
    """Runs a command with its output thrown away; returns the milliseconds from before the spawn to after the end."""
    with tempfile.TemporaryFile() as errors, open(os.devnull, "r+b") as null:
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), number) for number in (0, 1)]
        actions.append((os.POSIX_SPAWN_DUP2, errors.fileno(), 2))
        begin = time.perf_counter()
        pid = os.posix_spawnp(command[0], list(command), os.environ if env is None else env, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        elapsed = time.perf_counter() - begin
        if status != 0:
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip()
            raise RuntimeError(f"{' '.join(command)} ended with wait status {status}: {told}")
    return elapsed * 1000


def timings(command: Sequence[str]) -> dict[str, int]:
    """Runs `kasoku exec --timings ...`; returns its phases, in microseconds from the beginning."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    line = next(line for line in done.stderr.splitlines() if line.startswith("{"))
    phases: dict[str, int] = json.loads(line)
    return phases


def build_image(home: Path, name: str, *, requirements: Sequence[str] = (), tree: Path | None = None) -> list[str]:
    """Builds an image with this machine's Python; returns the beginning of a command that runs a program in it.

    Requirements get the versions that are installed here, so that both sides run the same code.
    """
    command = [str(KASOKU), "image", "build", name, "--python", "--home", str(home)]
    for package in requirements:
        command += ["--require", f"{package}=={version(package)}"]
    if tree is not None:
        command += ["--tree", f"{tree}:/bench"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [str(KASOKU), "exec", "--home", str(home), "--image", name]


def native_python(folder: Path, *, requirements: Sequence[str] = ()) -> str:
    """Makes a virtual environment with the same packages as the image and nothing else; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python3")
    if requirements:
        wanted = [f"{package}=={version(package)}" for package in requirements]
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--only-binary=:all:"]
        subprocess.run([*pip, *wanted], check=True)
    return python
