"""How fast data moves between a guest's program and its accelerator, on every OpenCL implementation of this machine.

    write/NAME-SIZE   an array to a buffer, blocking
    read/NAME-SIZE    a buffer to an array, blocking
    map/NAME-SIZE     a buffer mapped, every byte written, unmapped
    copy/NAME-SIZE    a buffer to a buffer

In GiB a second; the ratio is guest over native, with a target of at least 0.95 from 1MiB on. The same pyopencl program
runs natively and in a guest, and is asked in turn.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import kasoku_command as kasoku
from common.conversation import Conversation
from common.opencl import implementations
from common.report import Report, arguments
from common.sampling import interleave

PROGRAMS = Path(__file__).resolve().parent / "programs"
PACKAGES = ("numpy", "pyopencl")
SIZES = {
    "4KiB": 4 << 10,
    "64KiB": 64 << 10,
    "1MiB": 1 << 20,
    "16MiB": 16 << 20,
    "128MiB": 128 << 20,
    "512MiB": 512 << 20,
}
WHAT = ("write", "read", "map", "copy")
TARGET_FROM = 1 << 20
#: One array and two buffers of the largest size have room in the guest and in its session.
GUEST_MIB, ARENA_MIB = 2048, 1536
#: Bytes that one sample moves, so that short calls are not lost in the clock.
SAMPLE_BYTES = 16 << 20
MOST_CALLS = 200


def main() -> int:
    """Measures and reports."""
    options = arguments(__doc__, rounds=30)
    kasoku.require()
    report = Report("bandwidth")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        guest = kasoku.build_image(work / "home", "bench", requirements=PACKAGES, tree=PROGRAMS)
        python = kasoku.native_python(work / "venv", requirements=PACKAGES)
        for implementation in implementations(work):
            native = [python, str(PROGRAMS / "opencl_bandwidth.py")]
            sizes = ["--mem", str(GUEST_MIB), "--arena", str(ARENA_MIB)]
            command = [*guest, *sizes, "--accelerator", f"opencl:{implementation.device}", "-i", "--"]
            inside = [*command, "python3", "/bench/opencl_bandwidth.py"]
            with Conversation(native, implementation.environment) as here, Conversation(inside) as there:
                for label, size in SIZES.items():
                    name = f"{implementation.name}-{label}"
                    measure(report, name, {"native": here, "kasoku": there}, size, options.rounds)
    if not report.results:
        sys.exit("no OpenCL implementation was found: run `make setup`, which installs one")
    return report.finish(options.json)


def measure(report: Report, name: str, sides: dict[str, Conversation], size: int, rounds: int) -> None:
    """Measures every way to move `size` bytes."""
    for side in sides.values():
        _ask(side, op="prepare", size=size)
    count = min(MOST_CALLS, max(1, SAMPLE_BYTES // size))
    for what in WHAT:

        def sample(side: Conversation, what: str = what) -> float:
            return size / float(_ask(side, op="run", what=what, count=count)["ns"]) * 1e9 / (1 << 30)

        variants = {name: lambda side=side, sample=sample: sample(side) for name, side in sides.items()}
        # A large copy is dear and hardly noisy.
        samples = interleave(variants, rounds if size < 100 << 20 else min(rounds, 12))
        target = 0.95 if size >= TARGET_FROM else None
        report.compare(f"{what}/{name}", "GiB/s", samples, at_least=target)


def _ask(side: Conversation, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(side.ask(json.dumps(request)))
    return answer


if __name__ == "__main__":
    sys.exit(main())
