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
from typing import Any

from common.conversation import Conversation
from common.opencl import options, side_by_side
from common.report import Report, arguments
from common.sampling import interleave

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
    chosen = arguments(__doc__, rounds=30, more=options)
    report = Report("bandwidth")
    sizes = ("--mem", str(GUEST_MIB), "--arena", str(ARENA_MIB))
    for implementation, sides in side_by_side("programs/opencl_bandwidth.py", chosen, sizes):
        for label, size in SIZES.items():
            measure(report, f"{implementation.name}-{label}", sides, size, chosen.rounds)
    return report.finish(chosen.json, add=chosen.add)


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
