"""Whether code runs in a guest as fast as natively, once it has started: native time over guest time of the same work.

The C programs are compiled here, with the machine's compiler. Both sides answer in turn and must give the same results.
`blas` is NumPy's, in a guest with as many processors as the machine has (8 at most), natively with all of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import kasoku_command as kasoku
from common.conversation import Conversation
from common.report import Report, arguments
from common.sampling import interleave

PROGRAMS = Path(__file__).resolve().parent / "programs"
#: Name of the result, and of the program.
LOOPS = {"integer": "integer", "float": "floating", "avx2": "avx2", "memory_latency": "memory"}
SCRIPTS = {"python": "python_workload.py", "blas": "blas.py"}
SAMPLE_MS = 60


def main() -> int:
    """Measures and reports."""
    options = arguments(__doc__, rounds=30)
    kasoku.require()
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler was found (cc): the loops are written in C")
    report = Report("cpu")
    with tempfile.TemporaryDirectory() as folder:
        bench = Path(folder) / "bench"
        bench.mkdir()
        for program in LOOPS.values():
            source = PROGRAMS / f"{program}.c"
            subprocess.run([compiler, "-O2", "-static", "-o", str(bench / program), str(source)], check=True)
        for script in SCRIPTS.values():
            shutil.copy(PROGRAMS / script, bench)
        guest = kasoku.build_image(Path(folder) / "home", "bench", requirements=["numpy"], tree=bench)
        python = kasoku.native_python(Path(folder) / "venv", requirements=["numpy"])
        cases = {name: ([str(bench / program)], [f"/bench/{program}"]) for name, program in LOOPS.items()}
        for name, script in SCRIPTS.items():
            cases[name] = ([python, str(bench / script)], ["python3", f"/bench/{script}"])
        for name, (native, inside) in cases.items():
            if name == "avx2" and " avx2 " not in Path("/proc/cpuinfo").read_text():
                print("avx2: this processor has none")
                continue
            vcpus = min(os.cpu_count() or 1, 8) if name == "blas" else 1
            command = [*guest, "--vcpus", str(vcpus), "-i", "--", *inside]
            with Conversation(native) as here, Conversation(command) as there:
                _compare(report, name, here, there, options.rounds)
    return report.finish(options.json)


def _compare(report: Report, name: str, here: Conversation, there: Conversation, rounds: int) -> None:
    def run(side: Conversation, repetitions: int) -> tuple[float, str]:
        nanoseconds, result = side.ask(str(repetitions)).split()
        return int(nanoseconds) / 1e6, result

    for side in (here, there):
        run(side, 1)  # what a program prepares when it is first asked is not what it is measured by
    repetitions = 1
    while run(here, repetitions)[0] < SAMPLE_MS / 2:
        repetitions *= 2
    # A side's results depend on its own history (the memory walk goes on where it stopped): bring both to one state.
    done = {"native": 2 * repetitions, "kasoku": 1}
    while done["kasoku"] < done["native"]:
        step = min(repetitions, done["native"] - done["kasoku"])
        run(there, step)
        done["kasoku"] += step
    results: dict[str, list[str]] = {"native": [], "kasoku": []}

    def sample(which: str, side: Conversation) -> float:
        milliseconds, result = run(side, repetitions)
        results[which].append(result)
        return milliseconds

    variants = {"native": lambda: sample("native", here), "kasoku": lambda: sample("kasoku", there)}
    samples = interleave(variants, rounds)
    if results["native"] != results["kasoku"]:
        raise RuntimeError(f"{name}: the guest computed something else than the machine")
    report.compare(name, "ms", samples, at_least=0.97, inverse=True)


if __name__ == "__main__":
    sys.exit(main())
