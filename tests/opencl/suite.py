"""Somebody else's OpenCL test suite, natively and in a guest on the same device: `make conformance-opencl SUITE=PATH`.

The suite is a directory that pytest runs, lying anywhere; it stays out of the repository. What goes in is the list of
its tests with both results, one file for each device.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kasoku.node.native import opencl_library_path
from tests.opencl import sessions

RESULTS = Path(__file__).resolve().parent / "results"
#: How long a whole suite may take on one side, seconds.
PATIENCE = 3600
#: MiB of the guest: suites allocate arrays of hundreds of MiB.
MEMORY, ARENA = 4096, 512

#: Names hold what differs between the sides: the device as pyopencl prints it.
_DEVICE = re.compile(r"<context factory for .*?>>|<pyopencl\.\w+ [^>]*>")
_LINE = re.compile(r"^(\S.*?::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_PASSED = {"PASSED", "XPASS"}
#: A test that skips itself, or fails as its author foresaw, is none that only the guest fails: the list shows it.
_NOT_FAILED = _PASSED | {"SKIPPED", "XFAIL"}


def outcomes(output: str) -> dict[str, str]:
    """The result of each test in pytest's verbose output, by the test's name without the device."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        if match := _LINE.match(line):
            name = _DEVICE.sub("device", match[1])
            found[name.rsplit("/", 1)[-1]] = match[2]
    return found


def command(python: Path, suite: Path, more: Sequence[str]) -> list[str]:
    """What runs the suite; it prints a line for each test."""
    options = ["-p", "no:cacheprovider", "-o", "console_output_style=classic", "-v", "--tb=no", "-rN", "--color=no"]
    return [str(python), "-B", "-m", "pytest", *options, *more, str(suite)]


def native(python: Path, suite: Path, device: str, more: Sequence[str]) -> dict[str, str]:
    """The suite on this machine, with the vendor's library as its only driver."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = sessions.vendors(Path(scratch) / "native", sessions.native_driver(device))
        environment |= {"LD_LIBRARY_PATH": opencl_library_path(), "HOME": scratch, "PYTHONDONTWRITEBYTECODE": "1"}
        del environment["PYOPENCL_NO_CACHE"]
        return outcomes(sessions.run(command(python, suite, more), environment, Path(scratch), PATIENCE).stdout)


def guest(python: Path, suite: Path, device: str, more: Sequence[str]) -> dict[str, str]:
    """The suite in a virtual machine that holds a lease of the device."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--home", scratch, "--accelerator", f"opencl:{device}", "--mem", str(MEMORY), "--arena", str(ARENA)]
        shown = {suite.resolve(), python.parent.parent.resolve()}
        options += [text for path in shown for text in ("--mount", f"{path}:{path}:ro")]
        arguments = [str(sessions.KASOKU), "exec", *options, "-w", "/tmp", "-e", "HOME=/tmp", "--"]
        finished = subprocess.run(
            [*arguments, *command(python, suite, more)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
        return outcomes(finished.stdout)


def report(suite: str, device: str, before: dict[str, str], after: dict[str, str]) -> tuple[str, list[str]]:
    """The list of names and results, and the names of tests that only the guest fails."""
    lost = [name for name, result in before.items() if result in _PASSED and after.get(name) not in _NOT_FAILED]
    count = {
        side: sum(result == "PASSED" for result in results.values())
        for side, results in (("native", before), ("guest", after))
    }
    lines = [
        f"# {suite} on {device}: {count['native']} passed natively, {count['guest']} in a guest, of {len(before)};",
        f"# {len(lost)} pass natively and fail in the guest. Columns: native, guest, test.",
    ]
    lines += [f"{before[name]:8} {after.get(name, 'ABSENT'):8} {name}" for name in sorted(before)]
    return "\n".join(lines) + "\n", lost


def main() -> int:
    """Run a suite; 1 when the guest fails a test that passes natively."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path, help="directory or file that pytest runs")
    parser.add_argument("--name", help="of the result files (default: that of the suite's directory)")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="interpreter with what the suite needs"
    )
    parser.add_argument("--device", action="append", help="e.g. pocl:0 (default: the first of each implementation)")
    parser.add_argument("more", nargs="*", help="further arguments of pytest, after --")
    options = parser.parse_args()
    suite: Path = options.suite.resolve()
    name = options.name or (suite.parent.name if suite.name in {"test", "tests"} else suite.name)
    known = [str(device["id"]) for device in sessions.devices()]
    lost_anywhere = False
    for device in options.device or [device for device in known if device.endswith(":0")]:
        sides = [side(options.python, suite, device, options.more) for side in (native, guest)]
        text, lost = report(name, device, *sides)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.{device.split(':', 1)[0]}.txt").write_text(text)
        print("\n".join(text.splitlines()[:2] + [f"only in the guest: {test}" for test in lost]), flush=True)
        lost_anywhere |= bool(lost)
    return int(lost_anywhere)


if __name__ == "__main__":
    sys.exit(main())
