"""Kernels of PolyBench and Rodinia in a guest and natively, on every OpenCL implementation of this machine.

    large/NAME-KERNEL    data in, all launches, results out, at a size of about 50 ms (target <= 1.05)
    large/NAME-mean      the geometric mean of these ratios (target <= 1.01)
    small/NAME-KERNEL    the same at about 1 ms, as it is
    small/NAME-mean      the geometric mean of these ratios

The same pyopencl program runs natively and in a guest, and is asked in turn. Sizes are found by running the native
side; each result is compared with NumPy's on both sides. `--only large` or `small`, and `--runtime NAME --add`, measure
in parts.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from common import opencl
from common.conversation import Conversation
from common.report import Report, Result, arguments
from common.sampling import interleave, ratio

#: Name, seconds, rounds, what a ratio may be at most, and their geometric mean.
SIZES = (("large", 50e-3, 12, 1.05, 1.01), ("small", 1e-3, 40, None, None))
MOST_SIZE = 1 << 22


def main() -> int:
    """Measures and reports."""
    chosen = arguments(__doc__, rounds=40, more=_options)
    report = Report("kernels")
    for implementation, sides in opencl.side_by_side("suites/run.py", chosen):
        for label, seconds, rounds, target, mean in SIZES:
            if chosen.only not in (None, label):
                continue
            logarithms = []
            for name, granule, power in _ask(sides["native"], op="names")["workloads"]:
                size = _calibrate(sides["native"], name, granule, power, seconds)
                samples = _compare(sides, name, size, min(rounds, chosen.rounds))
                report.compare(f"{label}/{implementation.name}-{name}", "ms", samples, at_most=target)
                logarithms.append(math.log(ratio(samples["kasoku"], samples["native"]).value))
            value = math.exp(sum(logarithms) / len(logarithms))
            report.add(
                Result(
                    f"{label}/{implementation.name}-mean",
                    "ratio",
                    ratio=value,
                    target=None if mean is None else f"<= {mean}",
                    ok=None if mean is None else value <= mean,
                    n=len(logarithms),
                )
            )
    return report.finish(chosen.json, add=chosen.add)


def _options(parser: argparse.ArgumentParser) -> None:
    opencl.options(parser)
    parser.add_argument("--only", choices=[label for label, *_ in SIZES], help="sizes to measure [all]")


def _compare(sides: dict[str, Conversation], name: str, size: int, rounds: int) -> dict[str, list[float]]:
    for side in sides.values():
        if wrong := _ask(side, op="prepare", name=name, size=size, check=True).get("wrong"):
            raise RuntimeError(wrong)
    digests: set[str] = set()

    def sample(side: Conversation) -> float:
        answer = _ask(side, op="run")
        digests.add(answer["digest"])
        return float(answer["ns"]) / 1e6

    variants = {key: lambda side=side: sample(side) for key, side in sides.items()}
    samples = interleave(variants, rounds)
    if len(digests) != 1:
        raise RuntimeError(f"{name} of size {size}: the guest computed something else than the machine")
    return samples


def _calibrate(native: Conversation, name: str, granule: int, power: float, seconds: float) -> int:
    """Returns the size at which the native program takes about as long as asked."""
    size = granule
    while True:
        _ask(native, op="prepare", name=name, size=size, check=False)
        taken = min(_ask(native, op="run")["ns"] for _ in range(3)) / 1e9
        grown = size * min((seconds / taken) ** (1 / power), 4)
        larger = round(grown / granule) * granule
        if taken >= 0.9 * seconds or larger <= size or larger > MOST_SIZE:
            return size
        size = larger


def _ask(side: Conversation, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(side.ask(json.dumps(request)))
    return answer


if __name__ == "__main__":
    sys.exit(main())
