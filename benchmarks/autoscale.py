"""From nothing to a hundred calls at once, and back: how soon the last is answered.

One function sleeps for 100 ms, one computes for as long. Every round begins without an instance. With `--json`, the
course of the last round (answers and instances over time) lies beside the results, as FILE.series.json and, drawn, as
FILE.svg.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import kasoku_command as kasoku
from common.report import Report, Result, arguments
from common.sampling import median
from common.servers import end_on_signals
from common.servers import gateway as started
from kasoku.sdk.remote import Gateway

CALLS = 100
WORK_MS = 100
END_SECONDS = 20.0
FUNCTIONS = """
import time
import kasoku

app = kasoku.App("burst")


@app.function(memory=128, max_instances=100, idle_timeout=0.2)
def sleep():
    time.sleep(0.1)


@app.function(memory=128, max_instances=100, idle_timeout=0.2)
def compute():
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
"""


def main() -> int:
    """Run it."""
    options = arguments(__doc__, 3)
    kasoku.require()
    report = Report("autoscale")
    series: dict[str, Any] = {}
    end_on_signals()
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), FUNCTIONS):
        gateway = Gateway.find(folder, timeout=120)
        gateway.invoke("burst-sleep", {})  # layers are in the page cache, as they are on a machine in use
        _wait_for_none(gateway)
        cores = os.cpu_count() or 1
        for name, target in (("sleep", 350.0), ("compute", CALLS * WORK_MS / cores + 250.0)):
            lasts = []
            for _ in range(options.rounds):
                last, series[name] = _burst(gateway, f"burst-{name}")
                lasts.append(last)
                _wait_for_none(gateway)
            half = median(lasts).value
            _draw(name, series[name])
            report.add(
                Result(
                    f"burst_{CALLS}/{name}",
                    "ms",
                    kasoku=half,
                    target=f"<= {target:g}",
                    ok=half <= target,
                    n=options.rounds,
                    p50=half,
                )
            )
    if options.json:
        options.json.with_suffix(".series.json").write_text(json.dumps(series) + "\n")
        options.json.with_suffix(".svg").write_text(_picture(series))
    return report.finish(options.json)


def _burst(gateway: Gateway, name: str) -> tuple[float, list[dict[str, float]]]:
    """Milliseconds from the first request to the last answer, and what there was every 20 ms."""
    barrier = threading.Barrier(CALLS + 1)
    answered: list[float] = []

    def call(_: int) -> None:
        barrier.wait()
        gateway.invoke(name, {})
        answered.append(time.perf_counter())

    series: list[dict[str, float]] = []
    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(call, number) for number in range(CALLS)]
        barrier.wait()
        begin = time.perf_counter()
        while not all(done.done() for done in calls):
            at = (time.perf_counter() - begin) * 1000
            instances = len(gateway.json("GET", "/v1/instances"))
            series.append({"ms": round(at, 1), "answered": len(answered), "instances": instances})
            time.sleep(0.02)
        for done in calls:
            done.result()
    return (max(answered) - begin) * 1000, series


def _draw(name: str, series: list[dict[str, float]]) -> None:
    """The course as lines of text."""
    print(f"{name}: answered (#) and instances (|) over time")
    for step in series[:: max(1, len(series) // 12)]:
        line = list("#" * int(step["answered"] / 2) + " " * (51 - int(step["answered"] / 2)))
        line[min(50, int(step["instances"] / 2))] = "|"
        print(f"  {step['ms']:7.0f} ms {''.join(line)}")


def _picture(series: dict[str, list[dict[str, float]]]) -> str:
    """The courses as curves: answers solid, instances dashed."""
    parts: list[str] = []
    for number, (name, steps) in enumerate(series.items()):
        top, longest = 20 + number * 160, max(step["ms"] for step in steps) or 1.0
        parts.append(f'<text x="10" y="{top}">{name}: {CALLS} calls, {longest:.0f} ms</text>')
        for key, dash in (("answered", ""), ("instances", ' stroke-dasharray="4 3"')):
            most = max(CALLS, *(step[key] for step in steps))
            points = " ".join(
                f"{10 + 580 * step['ms'] / longest:.1f},{top + 130 - 120 * step[key] / most:.1f}" for step in steps
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="#2563c9"{dash}/>')
    height = 20 + 160 * len(series)
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="600" height="{height}" {style}>'
    return head + '<rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n"


def _wait_for_none(gateway: Gateway) -> None:
    deadline = time.monotonic() + END_SECONDS
    while left := gateway.json("GET", "/v1/instances"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(left)} instances are still there {END_SECONDS:g} s after the burst")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
