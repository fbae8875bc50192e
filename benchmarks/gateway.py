"""The gateway under load: warm synchronous calls over HTTP, and asynchronous ones accepted to disk.

Beside it, in the same rounds: a bare Starlette echo, and the same function in a process pool. The load generator shares
the machine. A trivial function in as many virtual machines as there are cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from common import kasoku_command as kasoku
from common.load import Load, request, run
from common.report import Report, Result, arguments
from common.sampling import interleave, median, percentile
from common.servers import end_on_signals, gateway, running

FUNCTION = """
import kasoku

app = kasoku.App("bench")


@app.function(memory=128, max_instances={cores}, idle_timeout=600)
def echo(n=0):
    return {{"n": n}}
"""
PEERS = Path(__file__).resolve().parent / "programs" / "gateway_peers.py"
HOST = "127.0.0.1"
BODY = b'{"n": 1}'
SECONDS = 1.2
INVOKE = "/2015-03-31/functions/bench-echo/invocations"


def main() -> int:
    """Run it."""
    options = arguments(__doc__, 5)
    kasoku.require()
    end_on_signals()
    report = Report("gateway")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(gateway(home, FUNCTION.format(cores=os.cpu_count())))
        peers: dict[str, int] = {}
        for name in ("echo", "pool"):
            found = stack.enter_context(running([sys.executable, str(PEERS), name], r"(\d+)"))
            peers[name] = int(found[1])
        for connections in (64, 1):
            _synchronous(report, port, peers, connections, options.rounds)
        _asynchronous(report, port, options.rounds)
    return report.finish(options.json)


def _synchronous(report: Report, port: int, peers: dict[str, int], connections: int, rounds: int) -> None:
    loads: dict[str, list[Load]] = {"kasoku": [], **{name: [] for name in peers}}

    def measure(name: str, port: int, path: str) -> float:
        load = run(HOST, port, connections, SECONDS, request(path, BODY, HOST))
        if load.errors:
            raise RuntimeError(f"{name}: {load.errors} answers were errors")
        loads[name].append(load)
        return load.rate

    places = {"kasoku": (port, INVOKE), **{name: (peer, "/invoke") for name, peer in peers.items()}}
    rates = interleave({name: partial(measure, name, *place) for name, place in places.items()}, rounds)
    latencies = {name: [ms for load in found[-rounds:] for ms in load.latencies_ms] for name, found in loads.items()}
    middle = {name: median(found).value for name, found in rates.items()}
    half = {name: percentile(found, 50) for name, found in latencies.items()}
    late = percentile(latencies["kasoku"], 99)
    many = connections > 1
    report.add(
        Result(
            f"sync_{connections}/throughput",
            "1/s",
            kasoku=middle["kasoku"],
            native=middle["pool"],
            ratio=middle["kasoku"] / middle["pool"],
            target=">= 3000" if many else None,
            ok=middle["kasoku"] >= 3000 if many else None,
            n=rounds,
            peers={"echo": middle["echo"]},
        )
    )
    report.add(
        Result(
            f"sync_{connections}",
            "ms",
            kasoku=half["kasoku"],
            native=half["pool"],
            ratio=half["kasoku"] / half["pool"],
            target="p50 <= 22, p99 <= 35" if many else "p50 <= 0.6",
            ok=half["kasoku"] <= 22 and late <= 35 if many else half["kasoku"] <= 0.6,
            n=len(latencies["kasoku"]),
            p50=half["kasoku"],
            p99=late,
            peers={"echo": half["echo"]},
        )
    )


def _asynchronous(report: Report, port: int, rounds: int) -> None:
    """Accepted, and with that on disk. The calls are due much later, so that only accepting is measured."""
    rates = []
    for _ in range(rounds):
        load = run(HOST, port, 64, SECONDS, request("/v1/functions/bench-echo:spawn?delay=86400", BODY, HOST))
        rates.append(load.rate)
    rate = median(rates).value
    report.add(Result("async/accepted", "1/s", kasoku=rate, target=">= 2000/s", ok=rate >= 2000, n=rounds, p50=rate))


if __name__ == "__main__":
    sys.exit(main())
