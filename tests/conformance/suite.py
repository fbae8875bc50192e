"""CPython's own test suite, one module at a time: on this machine and in a guest.

Both sides run the same interpreter with the same environment, as the same user, in an empty directory of their own,
with nothing on standard input and pipes for output.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KASOKU = Path(sys.executable).parent / "kasoku"
MEMORY_MIB = 2048
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}

#: Modules that reach for the internet, or whose size is hours of processor time or gigabytes: no run asks for those.
NETWORK = {"test_nntplib", "test_smtpnet", "test_urllib2net", "test_urllibnet", "test_xmlrpc_net"}


@dataclass(frozen=True)
class Outcome:
    """How one module ended on one side."""

    verdict: str
    """`passed`, `skipped` (the module skips itself, or wants what no run asks for), `failed` or `timeout`."""
    tests: int
    skipped: int
    seconds: float
    failures: tuple[str, ...]
    """The names of the test cases that failed; the last lines of output where none is named."""


def interpreters() -> Iterator[Path]:
    """The interpreters of this machine that have a test package: the one beneath this environment, then the system's.

    Some installations leave out parts of the package, so a module is taken from the first that has it.
    """
    seen = set()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(sys.base_prefix) / "bin" / version, Path("/usr/bin/python3")):
        if path.exists() and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def modules_of(python: Path) -> list[str]:
    """The names that `python -m test` would run; none where the package is not installed."""
    done = subprocess.run(
        [python, "-m", "test", "--list-tests"], capture_output=True, text=True, cwd="/", env=ENVIRONMENT, check=False
    )
    return done.stdout.split() if done.returncode == 0 else []


def all_modules() -> dict[str, Path]:
    """Every module but those that need the internet, with the interpreter that runs it."""
    found: dict[str, Path] = {}
    for python in interpreters():
        listed = modules_of(python)
        packages = {name.split(".")[1] for name in [*found, *listed] if name.startswith("test.")}
        for name in listed:
            if name not in NETWORK and name not in packages:
                found.setdefault(name, python)
    return dict(sorted(found.items()))


def known() -> dict[str, str]:
    """Modules that pass on the machine and not in a guest, with the reason."""
    with (HERE / "cpython.toml").open("rb") as file:
        return {entry["name"]: entry["reason"] for entry in tomllib.load(file).get("module", [])}


def run(module: str, python: Path, *, guest: bool, limit_s: int, match: str = "") -> Outcome:
    """Runs one module, or those of its test cases whose names match a pattern."""
    words = [str(python), "-m", "test", "-W", *(("-m", match) if match else ()), module]
    if guest:
        environment = [word for name, value in ENVIRONMENT.items() for word in ("-e", f"{name}={value}")]
        words = [str(KASOKU), "exec", "--mem", str(MEMORY_MIB), "-w", "/tmp", *environment, "--", *words]
    with tempfile.TemporaryDirectory(prefix="conformance") as folder, open(os.devnull, "rb") as nothing:
        # The shell that started this may ignore signals; a guest begins with none ignored.
        command = ["env", "--default-signal", "timeout", "--kill-after=5", str(limit_s), *words]
        environment_here = ENVIRONMENT if guest else ENVIRONMENT | {"TMPDIR": folder}
        began = os.times().elapsed
        done = subprocess.run(
            command,
            stdin=nothing,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment_here,
            check=False,
        )
        seconds = os.times().elapsed - began
    return judge(done.returncode, done.stdout.decode(errors="replace"), seconds)


def judge(code: int, output: str, seconds: float) -> Outcome:
    """What an exit code and an output mean."""
    no_tests_ran = 4
    if code in (124, 137):
        verdict = "timeout"
    elif code == no_tests_ran:
        verdict = "skipped"
    elif code != 0:
        verdict = "failed"
    else:
        verdict = "skipped" if re.search(r"^1 test skipped", output, re.MULTILINE) else "passed"
    total = re.search(r"^Total tests: run=([\d,]+)(?:.* skipped=([\d,]+))?", output, re.MULTILINE)
    ran = re.search(r"^Ran (\d+) tests? in", output, re.MULTILINE)
    tests = total[1] if total else ran[1] if ran else "0"
    failures: list[str] = []
    if verdict in ("failed", "timeout"):
        failures = sorted(set(re.findall(r"^(?:FAIL|ERROR): (.*)$", output, re.MULTILINE)))
        failures = failures or output.rstrip().splitlines()[-6:]
    return Outcome(
        verdict,
        int(tests.replace(",", "")),
        int(total[2].replace(",", "")) if total and total[2] else 0,
        round(seconds, 1),
        tuple(failures),
    )
