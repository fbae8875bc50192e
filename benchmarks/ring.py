"""What it costs to reach an accelerator's broker from a guest, on every OpenCL implementation of this machine.

    round_trip/NAME   a call with an answer, both ends active; `p50` and `p99` are what the guest adds (target <= 2 us)
    posted/NAME       a call without an answer, 2,000 in a row, all carried out at the end
    wake_PAUSE/NAME   a call with an answer after a pause, both ends asleep; `p50` and `p99` are what the guest adds
    idle/NAME         processor time of VM and broker in a second without calls (target 0)

The calls are an event's state and a kernel's argument, so `native` is next to nothing. The same pyopencl program runs
natively and in a guest, and is asked in turn.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from common.conversation import Conversation
from common.opencl import options, side_by_side
from common.processes import processor_time_ns
from common.report import Report, Result, arguments
from common.sampling import interleave, median, percentile

ROUND_TRIP_US = 2.0
CALLS_PER_SAMPLE = 500
POSTED_PER_SAMPLE = 2000
#: Pause, name, and most rounds: a pause of ten seconds is dear.
PAUSES = ((1, "1ms", 60), (100, "100ms", 20), (10_000, "10s", 2))
IDLE_SECONDS = 1.0
#: Budgets of polling and what Python does after an answer have run out by then.
SETTLE_SECONDS = 0.2
IDLE_ROUNDS = 5


def main() -> int:
    """Measures and reports."""
    chosen = arguments(__doc__, rounds=60, more=options)
    report = Report("ring")
    for implementation, sides in side_by_side("programs/opencl_ring.py", chosen):
        name = implementation.name
        _added(report, f"round_trip/{name}", sides, chosen.rounds, ROUND_TRIP_US, count=CALLS_PER_SAMPLE)
        _added(report, f"posted/{name}", sides, chosen.rounds, None, op="posted", count=POSTED_PER_SAMPLE)
        for idle_ms, label, most in PAUSES:
            rounds = min(most, chosen.rounds)
            _added(report, f"wake_{label}/{name}", sides, rounds, None, op="wake", idle_ms=idle_ms)
        _idle(report, f"idle/{name}", sides["kasoku"], min(IDLE_ROUNDS, chosen.rounds))
    return report.finish(chosen.json, add=chosen.add)


def _added(
    report: Report,
    name: str,
    sides: dict[str, Conversation],
    rounds: int,
    at_most_us: float | None,
    *,
    op: str = "round_trip",
    **arguments_: int,
) -> None:
    """Measures a call on both sides; a target is for what the guest adds, and holds when its interval does."""

    def sample(side: Conversation) -> float:
        return float(_ask(side, op=op, **arguments_)["ns"]) / 1000

    variants = {name: lambda side=side: sample(side) for name, side in sides.items()}
    samples = interleave(variants, rounds)
    added = [ours - native for ours, native in zip(samples["kasoku"], samples["native"], strict=True)]
    middle = median(added)
    report.add(
        Result(
            name,
            "us",
            kasoku=median(samples["kasoku"]).value,
            native=median(samples["native"]).value,
            target=None if at_most_us is None else f"p50 <= {at_most_us}",
            ok=None if at_most_us is None else middle.high <= at_most_us,
            n=rounds,
            p50=middle.value,
            p99=percentile(added, 99),
        )
    )


def _idle(report: Report, name: str, guest: Conversation, rounds: int) -> None:
    burnt: list[float] = []
    for _ in range(rounds):
        _ask(guest, op="round_trip", count=CALLS_PER_SAMPLE)
        time.sleep(SETTLE_SECONDS)
        before = processor_time_ns(guest.pid)
        time.sleep(IDLE_SECONDS)
        burnt.append((processor_time_ns(guest.pid) - before) / 1000)
    middle = median(burnt)
    report.add(
        Result(
            name,
            "us",
            kasoku=middle.value,
            target="p50 <= 0",
            ok=middle.value <= 0,
            n=rounds,
            p50=middle.value,
            p99=percentile(burnt, 99),
        )
    )


def _ask(side: Conversation, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(side.ask(json.dumps(request)))
    return answer


if __name__ == "__main__":
    sys.exit(main())
