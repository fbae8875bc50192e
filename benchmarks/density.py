"""How many instances of a function a machine holds: all restored from one snapshot, each answering once, all alive.

density/instances     how many answered and live (target: all that were asked for, --instances)
density/seconds       from the first start to the last answer
density/private_mib   memory that an instance has to itself (anonymous memory of its process), median
density/machine_mib   what the machine has less to give, per instance: kernel memory and page tables included
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from coldstart import SMALL, Starter, deploy, private_mib
from common import kasoku_command as kasoku
from common.report import Report, Result
from kasoku.home import Home
from kasoku.node.agent import NodeAgent
from kasoku.node.instance import Instance
from kasoku.node.native import Native
from kasoku.node.site import Site
from kasoku.node.store import StoreLayers

AT_ONCE = 8


def available_mib() -> float:
    """What the machine could still give to programs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


async def measure(report: Report, work: Path, count: int) -> None:
    home = Home(work / "home").make()
    layers = StoreLayers(home)
    node = NodeAgent(Site(home, Native(), layers.path, layers.volume))
    alive: list[Instance] = []
    try:
        starter = Starter(node)
        function = await deploy(node, layers, "small", SMALL % 0, memory=128)
        first, _, _ = await starter.cold(function)
        await first.stop("warm-up")
        before, begin = available_mib(), time.perf_counter()

        async def fill() -> None:
            while starter.number <= count:
                instance, _, _ = await starter.cold(function)
                alive.append(instance)

        await asyncio.gather(*(fill() for _ in range(AT_ONCE)))
        seconds = time.perf_counter() - begin
        living = [instance for instance in alive if not instance.ended.done()]
        report.add(
            Result("density/instances", "1", kasoku=len(living), target=f">= {count}", ok=len(living) >= count, n=count)
        )
        report.add(Result("density/seconds", "s", kasoku=seconds, n=len(living)))
        private = [private_mib(instance.pid) for instance in living if instance.pid]
        report.absolute("density/private_mib", "MiB", {"kasoku": private}, p50_at_most=6)
        taken = (before - available_mib()) / len(living)
        report.add(Result("density/machine_mib", "MiB", kasoku=taken, n=len(living)))
    finally:
        for start in range(0, len(alive), 32):
            await asyncio.gather(*(instance.stop("measured") for instance in alive[start : start + 32]))
        await node.close()


def main() -> int:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument("--instances", type=int, default=1000, help="how many to hold at a time [1000]")
    options = parser.parse_args()
    kasoku.require()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report("density")
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(report, Path(folder), options.instances))
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
