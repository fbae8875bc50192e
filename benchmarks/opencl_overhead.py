"""What a guest adds to the use of an accelerator, on every OpenCL implementation of this machine.

    end_to_end/NAME   data in, one kernel of 10 ms or more, data out: guest time over native time (target <= 1.05)
    short/NAME        the same with kernels of less than 10 ms
    call/NAME         microseconds of one API call; `p50` and `p99` are what the guest adds to the native call

The same pyopencl program runs natively and in a guest, both for the whole measurement, and is asked in turn. Kernel
lengths are found by running the native side. NAME is implementation-workload-length, or implementation-call.
`--runtime NAME --only PART --add` measures one part after the other, into one file.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from common.conversation import Conversation
from common.opencl import Implementation, options, side_by_side
from common.report import Report, Result, arguments
from common.sampling import interleave, median, percentile

#: Kernel time, name, and most rounds: a round of a second is dear, one of ten microseconds is noisy.
LENGTHS = (
    (10e-6, "10us", 300),
    (100e-6, "100us", 200),
    (1e-3, "1ms", 100),
    (10e-3, "10ms", 50),
    (100e-3, "100ms", 12),
    # The least that has an interval with 95 % confidence.
    (1.0, "1s", 6),
)
LONG = 10e-3
#: Size for kernels shorter and not shorter than a millisecond: of the array, or of the side of a square one.
SIZES = {"vadd": (2048, 262_144), "matmul": (16, 128), "stencil": (48, 512), "reduction": (2048, 262_144)}
CALLS = "calls"
PARTS = (*SIZES, CALLS)
CALLS_PER_SAMPLE = 50
REPEAT_MAX = 1 << 30


def main() -> int:
    """Measures and reports."""
    chosen = arguments(__doc__, rounds=300, more=_options)
    parts: set[str] = set(chosen.only or PARTS)
    report = Report("opencl_overhead")
    for implementation, sides in side_by_side("programs/opencl_kernels.py", chosen):
        _workloads(report, implementation, sides, chosen.rounds, parts)
        if CALLS in parts:
            _calls(report, implementation, sides, min(chosen.rounds, 60))
    return report.finish(chosen.json, add=chosen.add)


def _options(parser: argparse.ArgumentParser) -> None:
    options(parser)
    parser.add_argument("--only", action="append", choices=PARTS, help="what to measure, may be repeated [all]")


def _workloads(
    report: Report, implementation: Implementation, sides: dict[str, Conversation], rounds: int, parts: set[str]
) -> None:
    for workload, (small, large) in SIZES.items():
        if workload not in parts:
            continue
        repeat, before = 1, small
        for seconds, label, most in LENGTHS:
            size = large if seconds >= 1e-3 else small
            # A longer kernel of the same size begins where the one before ended.
            repeat, before = repeat if size == before else 1, size
            repeat, kernel = _calibrate(sides["native"], workload, size, seconds, repeat)
            digests: set[str] = set()
            for side in sides.values():
                _ask(side, op="prepare", workload=workload, n=size, repeat=repeat)

            def sample(name: str, digests: set[str] = digests) -> float:
                answer = _ask(sides[name], op="run")
                digests.add(answer["digest"])
                return float(answer["ns"]) / 1e6

            variants = {name: lambda name=name, sample=sample: sample(name) for name in sides}
            samples = interleave(variants, min(most, rounds), warmup=1)
            if len(digests) != 1:
                raise RuntimeError(f"{workload}: the guest computed something else than the machine")
            # A kernel that came out shorter than it was meant to be is no worse a kernel, but the target is not for it.
            long = seconds >= LONG and kernel >= LONG / 2
            name = f"{'end_to_end' if long else 'short'}/{implementation.name}-{workload}-{label}"
            report.compare(name, "ms", samples, at_most=1.05 if long else None)


def _calibrate(native: Conversation, workload: str, size: int, seconds: float, repeat: int) -> tuple[int, float]:
    """Returns the repetitions within a kernel that make it take about as long as asked, and its seconds."""
    while True:
        _ask(native, op="prepare", workload=workload, n=size, repeat=repeat)
        taken = min(_ask(native, op="kernel_alone")["ns"] for _ in range(1 if seconds > 0.5 else 3)) / 1e9
        if taken >= 0.9 * seconds or repeat >= REPEAT_MAX:
            return repeat, taken
        factor = seconds / taken
        # Short kernels are mostly launch: their time says little of what ten times the work would take.
        most = 4 if taken < 1e-3 else 20
        repeat = min(REPEAT_MAX, max(repeat + 1, int(repeat * min(factor, most))))


def _calls(report: Report, implementation: Implementation, sides: dict[str, Conversation], rounds: int) -> None:
    for call in _ask(sides["native"], op="calls")["calls"]:

        def sample(side: Conversation, call: str = call) -> float:
            return float(_ask(side, op="call", name=call, count=CALLS_PER_SAMPLE)["ns"]) / 1000

        variants = {name: lambda side=side, sample=sample: sample(side) for name, side in sides.items()}
        samples = interleave(variants, rounds)
        added = [ours - native for ours, native in zip(samples["kasoku"], samples["native"], strict=True)]
        report.add(
            Result(
                f"call/{implementation.name}-{call}",
                "us",
                kasoku=median(samples["kasoku"]).value,
                native=median(samples["native"]).value,
                n=rounds,
                p50=median(added).value,
                p99=percentile(added, 99),
            )
        )


def _ask(side: Conversation, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(side.ask(json.dumps(request)))
    return answer


if __name__ == "__main__":
    sys.exit(main())
