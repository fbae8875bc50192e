"""Runs the suites of a bundle on the machine where it was unpacked: `python3 run.py [--results FOLDER] [PART...]`.

Parts, all by default: `broker` (the broker's own tests), `opencl` (programs natively and in guests), `bandwidth`,
`ring`, `opencl_overhead`, `coldstart`. Everything is made in the bundle's own folder; the network is never used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / "environment"
BROKER_TESTS = ("session", "suspend", "hostile", "scrub", "isolation")
BENCHMARKS = ("bandwidth", "ring", "opencl_overhead", "coldstart")
PARTS = ("broker", "opencl", *BENCHMARKS)


def main() -> int:
    """Runs the parts and writes one JSON file of what they told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--limit", type=int, default=400, help="seconds that one part may take (default 400)")
    parser.add_argument("--rounds", type=int, help="rounds of each benchmark (default: its own)")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.results.mkdir(parents=True, exist_ok=True)
    python = _install()
    listed = _devices(python)
    print(f"devices: {', '.join(listed) or 'none'}", flush=True)
    parts = {
        part: _part(python, part, options.results, options.limit, options.rounds) for part in options.parts or PARTS
    }
    report = {
        "commit": (HERE / "commit").read_text().strip(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "devices": listed,
        "parts": parts,
    }
    (options.results / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(part["ok"] for part in parts.values()) else 1


def _install() -> str:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=False, symlinks=True)
        wheels = sorted(str(path) for path in (HERE / "wheels").glob("*.whl"))
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, *wheels], check=True)
    return str(python)


def _environment() -> dict[str, str]:
    """Wheels come from the bundle, also those of the guests' images; tests are told where what they build lies."""
    return {
        **os.environ,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(HERE / "wheels"),
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
        "KASOKU_TEST_BROKER": str(next(ENVIRONMENT.glob("lib/python3*/site-packages/kasoku/_native/kasoku-broker"))),
        "KASOKU_TEST_OPENCL_LIBRARY": str(HERE / "compiled" / "libkasoku_opencl.so"),
        "PYTHONUNBUFFERED": "1",
    }


def _devices(python: str) -> list[str]:
    code = "import json; from tests.opencl import sessions; print(json.dumps(sessions.devices()))"
    told = subprocess.run([python, "-c", code], cwd=HERE, env=_environment(), check=True, stdout=subprocess.PIPE)
    return [f"{device['id']} ({device.get('name', '?')})" for device in json.loads(told.stdout)]


def _part(python: str, part: str, results: Path, limit: int, rounds: int | None) -> dict[str, object]:
    if part == "broker":
        commands = [[str(HERE / "compiled" / name), "--test-threads=4"] for name in BROKER_TESTS]
    elif part == "opencl":
        workers = str(min(os.cpu_count() or 1, 8))
        pytest = [python, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", "-rfEs", "--tb=short"]
        commands = [[*pytest, f"--session-timeout={limit - 20}", "tests/opencl"]]
    else:
        more = ["--rounds", str(rounds)] if rounds else []
        commands = [[python, f"benchmarks/{part}.py", "--json", str(results / f"{part}.json"), *more]]
    begin = time.monotonic()
    ended, log = [], results / f"{part}.log"
    with log.open("w") as output:
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    cwd=HERE,
                    env=_environment(),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=limit,
                    check=False,
                )
                ended.append(done.returncode)
            except subprocess.TimeoutExpired:
                ended.append(124)
    text = log.read_text(errors="replace")
    summary = re.findall(
        r"^(?:test result: .*|.*\d+ (?:passed|failed).* in .*|FAILED .*|ERROR .*|.*MISSED.*)$", text, re.M
    )
    seconds = round(time.monotonic() - begin, 1)
    print(f"{part}: {'ok' if not any(ended) else f'ended with {ended}'}, {seconds} s", *summary, sep="\n  ", flush=True)
    return {"ok": not any(ended), "seconds": seconds, "told": summary}


if __name__ == "__main__":
    sys.exit(main())
