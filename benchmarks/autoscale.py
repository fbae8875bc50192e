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
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import kasoku_command as kasoku
from common.load import request, run
from common.report import Report, Result, arguments
from common.sampling import median
from common.servers import end_on_signals
from common.servers import gateway as started
from kasoku.sdk.remote import Gateway

HOST = "127.0.0.1"
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
def compute(turns=0):
    for _ in range(turns):
        pass
"""


def main() -> int:
    """Run it."""
    options = arguments(__doc__, 3)
    kasoku.require()
    report = Report("autoscale")
    series: dict[str, Any] = {}
    end_on_signals()
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), FUNCTIONS) as port:
        gateway = Gateway.find(folder, timeout=120)
        gateway.invoke("burst-sleep", {})  # layers are in the page cache, as they are on a machine in use
        _wait_for_none(gateway)
        cores = os.cpu_count() or 1
        bursts: list[tuple[str, dict[str, int], float]] = [
            ("sleep", {}, 350.0),
            ("compute", {"turns": _turns()}, CALLS * WORK_MS / cores + 250.0),
        ]
        for name, event, target in bursts:
            lasts = []
            for _ in range(options.rounds):
                last, series[name] = _burst(gateway, port, f"burst-{name}", event)
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


def _turns() -> int:
    """Turns of an empty loop that take WORK_MS here, undisturbed. A guest cannot tell time from processor time."""

    def timed(turns: int) -> float:
        begin = time.perf_counter()
        for _ in range(turns):
            pass
        return time.perf_counter() - begin

    sample = 1_000_000
    return int(sample * WORK_MS / 1000 / min(timed(sample) for _ in range(10)))


def _burst(gateway: Gateway, port: int, name: str, event: dict[str, int]) -> tuple[float, list[dict[str, float]]]:
    """Milliseconds from the first request to the last answer, and what there was every 20 ms."""
    sent = request(f"/2015-03-31/functions/{name}/invocations", json.dumps(event).encode(), HOST)
    series: list[dict[str, float]] = []
    with ThreadPoolExecutor(1) as pool:
        # Nothing but the calls in a process of their own: a hundred threads here would be later than the instances.
        calls = pool.submit(run, HOST, port, CALLS, 0.0, sent)
        begin = time.perf_counter()
        while not calls.done():
            instances = gateway.json("GET", "/v1/instances")
            at = round((time.perf_counter() - begin) * 1000, 1)
            answered = sum(instance["invocations"] - (instance["state"] == "busy") for instance in instances)
            series.append({"ms": at, "answered": answered, "instances": len(instances)})
            time.sleep(0.02)
        load = calls.result()
    if load.errors or len(load.latencies_ms) != CALLS:
        raise RuntimeError(f"{name}: {load.errors} answers were errors, {len(load.latencies_ms)} came")
    began = next((step["ms"] for step in series if step["instances"]), 0.0)
    return load.span_ms, [{**step, "ms": round(step["ms"] - began, 1)} for step in series if step["ms"] >= began]


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
