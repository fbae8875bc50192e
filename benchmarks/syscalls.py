"""What a system call costs: natively, in a guest from a site that still traps and from one that was rewritten, and in
gVisor where it is installed. The C program is compiled here, with the machine's compiler.

Calls that block have two threads take turns; a repetition is there and back.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from common import kasoku_command as kasoku
from common import peers
from common.conversation import Conversation
from common.report import Report, arguments
from common.sampling import interleave

SOURCE = Path(__file__).resolve().parent / "programs" / "syscalls.c"
SAMPLE_MS = 10
#: Targets in nanoseconds of the calls that have one of their own. A sleep ends within 100 us of its time.
ABSOLUTE = {
    "getpid/patched": 60,
    "clock_gettime": 40,
    "gettimeofday": 40,
    "getcpu": 40,
    "nanosleep_1ms": 1_100_000,
}
#: Calls that need no exit of the virtual machine: never dearer than natively.
NATIVE_OR_BETTER = (
    "read_zero_1",
    "write_null_1",
    "pread_4k_image",
    "pipe_pingpong",
    "mmap_touch_munmap_1M",
    "thread_create_join",
    "futex_wake",
)
#: Measured to be seen, without a target: a site that cannot be rewritten.
SHOWN = ("getpid/trapped",)


def main() -> int:
    """Measures and reports."""
    options = arguments(__doc__, rounds=30)
    kasoku.require()
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler was found (cc): the calls are made by a program in C")
    report = Report("syscalls")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Path(folder) / "bench"
        bench.mkdir()
        program = bench / "syscalls"
        subprocess.run([compiler, "-O2", "-static", "-pthread", "-o", str(program), str(SOURCE)], check=True)
        guest = kasoku.build_image(Path(folder) / "home", "bench", tree=bench)
        commands = {"native": [str(program)], "kasoku": [*guest, "-i", "--", "/bench/syscalls"]}
        runsc = peers.conversation(Path(folder) / "runsc", program, "runsc")
        if runsc is not None:
            commands["runsc"] = runsc
        sides = {name: stack.enter_context(Conversation(command)) for name, command in commands.items()}
        for name in (*ABSOLUTE, *NATIVE_OR_BETTER, *SHOWN):
            _measure(report, name, sides, options.rounds)
    return report.finish(options.json)


def _measure(report: Report, name: str, sides: dict[str, Conversation], rounds: int) -> None:
    results: dict[str, set[str]] = {side: set() for side in sides}

    def run(side: str, repetitions: int) -> float:
        nanoseconds, result = sides[side].ask(f"{name} {repetitions}").split()
        results[side].add(f"{repetitions}: {result}")
        return int(nanoseconds) / repetitions

    # Long enough to be measured, on the slowest side too. The first calls are also those that rewrite the site.
    repetitions = 8
    while min(run(side, repetitions) * repetitions for side in sides) < SAMPLE_MS * 1e6:
        repetitions *= 2
    samples = interleave({side: lambda side=side: run(side, repetitions) for side in sides}, rounds)  # type: ignore[misc]
    if any(result != results["native"] for result in results.values()):
        raise RuntimeError(f"{name}: the sides did not get the same results: {results}")
    if name in ABSOLUTE:
        report.absolute(name, "ns", samples, p50_at_most=ABSOLUTE[name])
    elif name in NATIVE_OR_BETTER:
        report.compare(name, "ns", samples, at_most=1.0)
    else:
        report.compare(name, "ns", samples)


if __name__ == "__main__":
    sys.exit(main())
