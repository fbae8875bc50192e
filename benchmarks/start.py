"""How long Python takes to start in a guest, and a function to its first answer.

python_pass             `python3 -c pass`, machine included
import_numpy_pyopencl   `import numpy, pyopencl`, machine included
deploy_to_answer        `kasoku deploy` of a new one-file function, then its first invocation, caches warm (seconds)
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import kasoku_command as kasoku
from common.report import Report, arguments
from common.sampling import interleave

PACKAGES = ("numpy", "pyopencl")
CASES = {"python_pass": ("pass", 40), "import_numpy_pyopencl": ("import numpy, pyopencl", 12)}
FUNCTION = """
import kasoku

app = kasoku.App("bench")

@app.function(memory=256)
def answer_{number}(value=0):
    return {{"number": {number}, "value": value}}
"""


def main() -> int:
    """Measures and reports."""
    options = arguments(__doc__, rounds=40)
    kasoku.require()
    report = Report("start")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        guest = kasoku.build_image(work / "home", "bench", requirements=PACKAGES)
        native = kasoku.native_python(work / "venv", requirements=PACKAGES)
        for name, (program, most) in CASES.items():
            arguments_ = ["-c", program]
            variants = {
                "kasoku": lambda arguments_=arguments_: kasoku.timed([*guest, "--", "python3", *arguments_]),
                "native": lambda arguments_=arguments_: kasoku.timed([native, *arguments_], env={"PATH": "/bin"}),
            }
            samples = interleave(variants, min(most, options.rounds), warmup=2)
            report.compare(name, "ms", samples, at_most=1.1)
        report.absolute("deploy_to_answer", "s", {"kasoku": _deployments(work, min(5, options.rounds))}, p50_at_most=5)
    return report.finish(options.json)


def _deployments(work: Path, rounds: int) -> list[float]:
    home = ["--home", str(work / "home")]
    server = subprocess.Popen(
        [str(kasoku.KASOKU), "up", *home, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout
        for line in server.stdout:
            if re.search(r"http://", line):
                break
        seconds = []
        for number in range(-1, rounds):  # the first fills the caches
            file = work / f"function_{number + 1}.py"
            file.write_text(FUNCTION.format(number=number + 1))
            begin = time.perf_counter()
            subprocess.run([str(kasoku.KASOKU), "deploy", str(file), *home], check=True, stdout=subprocess.DEVNULL)
            # The name is of the form that App gives: app, dash, function.
            invoke = [str(kasoku.KASOKU), "invoke", f"bench-answer_{number + 1}", '{"value": 7}', *home]
            done = subprocess.run(invoke, check=True, capture_output=True, text=True)
            if number >= 0:
                seconds.append(time.perf_counter() - begin)
            if json.loads(done.stdout) != {"number": number + 1, "value": 7}:
                raise RuntimeError(f"the function answered {done.stdout!r}")
        return seconds
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
