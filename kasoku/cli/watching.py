"""Commands for looking on: events, usage, and `top`."""

import json
import time
from datetime import datetime, timedelta
from typing import Any

import click

from kasoku.cli.terminal import home_option, printable, table
from kasoku.sdk.remote import Gateway

POLL_SECONDS = 30
_CLEAR = "\x1b[H\x1b[2J"


@click.command()
@home_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens.")
@click.option("--json", "as_json", is_flag=True, help="Print each as JSON.")
def events(home: str | None, follow: bool, as_json: bool) -> None:
    """Print what was decided, and why: instances started and ended, leases, failures."""
    gateway = Gateway.find(home)
    after, wait_s = 0, 0
    while True:
        for event in gateway.json("GET", f"/v1/events?after={after}&wait={wait_s}"):
            after = event["number"]
            click.echo(json.dumps(event) if as_json else _event_line(event))
        if not follow:
            return
        wait_s = POLL_SECONDS


def _event_line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S.%f")[:-3]
    function = event.get("function", "")
    return printable(f"{at}  {event['kind']:8}  {function:20}  {event['text']}")


@click.command()
@home_option
@click.option("--days", default=30.0, show_default=True, help="How far to look back.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def usage(home: str | None, days: float, as_json: bool) -> None:
    """Print what each function used, and what the same work would have cost on a device rented by the hour."""
    since = (datetime.now() - timedelta(days=days)).timestamp()
    told = Gateway.find(home).json("GET", f"/v1/usage?since={max(0.0, since):.0f}")
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    rows = [
        [
            line["function"],
            line["device"],
            line["invocations"],
            line["errors"],
            line["cold"],
            f"{line['billed_s']:.1f}",
            f"{line['gib_s']:.1f}",
            _amount(line.get("device_s"), 1),
            _amount(line.get("device_cost"), 4),
            _amount(line.get("rented_cost"), 2),
        ]
        for line in told["lines"]
    ]
    header = ["FUNCTION", "DEVICE", "CALLS", "ERRORS", "COLD", "BILLED S", "GIB S", "DEVICE S", "COST", "RENTED"]
    click.echo(table(header, rows))


def _amount(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


@click.command()
@home_option
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print once and end.")
def top(home: str | None, interval: float, once: bool) -> None:
    """Watch functions, instances and devices. Ctrl-C ends it."""
    gateway = Gateway.find(home)
    before: dict[str, int] = {}
    at = time.monotonic()
    while True:
        status = gateway.json("GET", "/v1/status")
        now = time.monotonic()
        text, before = _screen(status, before, max(now - at, 1e-3))
        at = now
        if once:
            click.echo(text)
            return
        click.echo(_CLEAR + text)
        try:
            time.sleep(max(0.1, interval))
        except KeyboardInterrupt:
            return


def _screen(status: dict[str, Any], before: dict[str, int], seconds: float) -> tuple[str, dict[str, int]]:
    instances, calls = status["instances"], status["calls"]
    busy = sum(1 for i in instances if i["state"] == "busy")
    used = sum(i["memory_mib"] for i in instances)
    queue = ", ".join(f"{count} {state}" for state, count in calls.items()) or "none"
    lines = [
        f"{len(instances)} instances, {busy} busy; {used} of {status['memory_mib']} MiB; asynchronous calls: {queue}",
        "",
    ]
    rows, totals = [], {}
    for function in status["functions"]:
        name, metrics = function["name"], function.get("metrics") or {}
        outcomes = metrics.get("outcomes", {})
        totals[name] = sum(outcomes.values())
        rate = (totals[name] - before[name]) / seconds if name in before else 0.0
        warm, cold = metrics.get("warm_ms", {}), metrics.get("cold_ms", {})
        own = sum(1 for i in instances if i["function"] == name)
        failed = totals[name] - outcomes.get("ok", 0)
        waiting = status["waiting"].get(name, 0)
        latencies = [warm.get("p50"), warm.get("p99"), cold.get("p50")]
        rows.append([name, own, waiting, f"{rate:.1f}", totals[name], failed, *latencies])
    lines.append(
        table(["FUNCTION", "INST", "WAIT", "CALLS/S", "CALLS", "FAILED", "P50 MS", "P99 MS", "COLD P50"], rows)
    )
    if status["devices"]:
        lines += ["", table(["DEVICE", "NAME", "HELD BY", "WAITING"], [_device(d) for d in status["devices"]])]
    return "\n".join(lines), totals


def _device(device: dict[str, Any]) -> list[Any]:
    return [f"opencl:{device['id']}", device["name"], device["held_by"], device["waiting"]]
