"""Runs CPython's test suite in guests, and on this machine what does not pass there; writes what differs.

    python -m tests.conformance.cpython                        everything (hours on two cores)
    python -m tests.conformance.cpython test_os test_io        some modules
    python -m tests.conformance.cpython --state FILE           goes on where an earlier run ended

Exit code 1 when a module that passes natively does not pass in the guest and `cpython.toml` does not list it, or lists
one that passes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from . import suite

RESULTS = suite.HERE / "results" / "cpython.json"
Record = dict[str, Any]


class State:
    """The records so far, on disk after each."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.records: dict[str, Record] = {}
        if path and path.exists():
            self.records = {record["module"]: record for record in map(json.loads, path.read_text().splitlines())}

    def add(self, record: Record) -> None:
        with self.lock:
            self.records[record["module"]] = record
            if self.path:
                with self.path.open("a") as file:
                    file.write(json.dumps(record) + "\n")
            print(line(record), flush=True)


def line(record: Record) -> str:
    """One record for the eye."""
    guest, native = record["guest"], record["native"]
    text = f"{record['module']}: {guest['verdict']}, {guest['tests']} tests, {guest['seconds']} s"
    if native:
        text += f"; on the machine {native['verdict']}"
        if native["failures"] != guest["failures"]:
            text += "".join(f"\n    {failure}" for failure in guest["failures"])
    return text


def measure(module: str, python: Path, limit_s: int, *, natively: bool) -> Record:
    """One module in a guest, and on the machine where that is wanted or it does not pass in the guest."""
    guest = suite.run(module, python, guest=True, limit_s=limit_s)
    on_machine = natively or guest.verdict != "passed"
    native = asdict(suite.run(module, python, guest=False, limit_s=limit_s)) if on_machine else None
    return {"module": module, "python": python.name, "commit": commit(), "guest": asdict(guest), "native": native}


def differing(records: list[Record]) -> set[str]:
    """Modules that pass natively and not in the guest."""
    return {
        record["module"]
        for record in records
        if record["guest"]["verdict"] != "passed" and record["native"] and record["native"]["verdict"] == "passed"
    }


def commit() -> str:
    """What is checked out, with a plus sign when files were changed since."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
        cwd=suite.HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def write(records: list[Record]) -> None:
    """Puts records into the results, in the place of what was there of their modules."""
    kept = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else []
    by_module = {record["module"]: record for record in [*kept, *records]}
    everything = [by_module[name] for name in sorted(by_module)]
    summary = {
        "modules": len(everything),
        "passed": sum(record["guest"]["verdict"] == "passed" for record in everything),
        "differing": sorted(differing(everything)),
    }
    rows = ",\n".join("    " + json.dumps(record) for record in everything)
    RESULTS.write_text(json.dumps(summary, indent=2)[:-2] + f',\n  "results": [\n{rows}\n  ]\n}}\n')


def main() -> int:
    parser = argparse.ArgumentParser(description="CPython's test suite, in guests and on this machine.")
    parser.add_argument("module", nargs="*", help="modules to run (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="modules at a time (default 2)")
    parser.add_argument("--limit", type=int, default=300, metavar="SECONDS", help="time for one module on one side")
    parser.add_argument("--state", type=Path, help="file of records: what is in it is not run again")
    parser.add_argument("--natively", action="store_true", help="run every module on the machine, too")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(suite.HERE.parent.parent)}")
    options = parser.parse_args()

    modules = suite.all_modules()
    unknown = [name for name in options.module if name not in modules]
    if unknown:
        parser.error(f"this machine's Python has no test module {', '.join(unknown)}")
    wanted = options.module or list(modules)
    state = State(options.state)
    left = [name for name in wanted if name not in state.records]
    with ThreadPoolExecutor(options.jobs) as pool:
        run = partial(measure, limit_s=options.limit, natively=options.natively)
        list(pool.map(lambda name: state.add(run(name, modules[name])), left))

    records = [state.records[name] for name in wanted]
    different, listed = differing(records), set(suite.known()) & set(wanted)
    if options.write:
        write(records)
    print(f"{len(records)} modules, {len(different)} pass natively and not in the guest")
    for name in sorted(different - listed):
        print(f"not in cpython.toml: {name}")
    for name in sorted(listed - different):
        print(f"in cpython.toml and does not differ: {name}")
    return int(different != listed)


if __name__ == "__main__":
    sys.exit(main())
