"""Runs every benchmark, writes results/NAME.json for each. Exit status 1 where one missed a target or did not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BENCHMARKS = (
    "boot",
    "start",
    "cpu",
    "syscalls",
    "ring",
    "bandwidth",
    "opencl_overhead",
    "coldstart",
    "density",
    "gateway",
    "autoscale",
)


def main() -> int:
    """Runs them one after the other: two at once would measure each other."""
    failed = []
    for name in BENCHMARKS:
        command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", str(FOLDER / "results" / f"{name}.json")]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"missed a target or did not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
