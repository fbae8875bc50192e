"""Packs binaries, wheels, tests and benchmarks into one file that runs on a machine without a network or a compiler.

    python tools/bundle.py [--python 3.12] [--output build/kasoku-bundle.tar.xz]

The other machine needs Linux on x86-64, /dev/kvm, an OpenCL implementation and the Python version that the bundle was
made for. There, `python3 kasoku-bundle/run.py` makes an environment, runs the suites and writes their results.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What one upload may hold.
LIMIT_BYTES = 64 << 20
NAME = "kasoku-bundle"
#: What the suites need besides the product. NumPy and pyopencl also become the guests' image.
PACKAGES = ("hypothesis", "numpy", "pyopencl", "pytest", "pytest-timeout", "pytest-xdist")
SOURCES = ("tests", "benchmarks", "examples", "pyproject.toml")
#: The broker's own tests: they drive a real broker on real devices.
BROKER_TESTS = ("addresses", "hostile", "isolation", "recover", "scrub", "session", "suspend")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64")


def main() -> None:
    """Builds and packs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", help="the other machine's Python (default 3.12)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / f"{NAME}.tar.xz")
    options = parser.parse_args()
    folder = ROOT / "build" / NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _wheels(folder / "wheels", options.python)
    _sources(folder)
    _compiled_tests(folder / "compiled")
    shutil.copy(Path(__file__).with_name("bundle_run.py"), folder / "run.py")
    commit = _output("git", "describe", "--always", "--dirty", "--abbrev=10").strip()
    (folder / "commit").write_text(f"{commit}\n")
    with tarfile.open(options.output, "w:xz", preset=6) as archive:
        archive.add(folder, NAME)
    size = options.output.stat().st_size
    print(f"{options.output}: {size / (1 << 20):.1f} MiB, for Python {options.python}, commit {commit}")
    if size > LIMIT_BYTES:
        sys.exit(f"error: the bundle is larger than {LIMIT_BYTES >> 20} MiB")


def _wheels(folder: Path, python: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    own = next(folder.glob("kasoku-*.whl"))
    platforms = [text for name in PLATFORMS for text in ("--platform", name)]
    _run(
        *pip,
        "download",
        "--only-binary=:all:",
        "--python-version",
        python,
        *platforms,
        "--dest",
        str(folder),
        str(own),
        *PACKAGES,
    )


def _sources(folder: Path) -> None:
    listed = _output("git", "ls-files", "-z", "--", *SOURCES).split("\0")
    for name in filter(None, listed):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def _compiled_tests(folder: Path) -> None:
    """Tests written in Rust, and the virtual library with the transport that tests use, without debugging symbols."""
    folder.mkdir()
    command = ["cargo", "test", "--locked", "--release", "--no-run", "--message-format=json", "-p", "kasoku-broker"]
    for line in _output(*command, *(text for name in BROKER_TESTS for text in ("--test", name))).splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] in BROKER_TESTS:
            _run("strip", "-o", str(folder / message["target"]["name"]), message["executable"])
    from tests.opencl.sessions import library

    _run("strip", "-o", str(folder / "libkasoku_opencl.so"), str(library()))


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def _output(*command: str) -> str:
    environment = {**os.environ, "CARGO_TERM_QUIET": "true"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
