"""Cold starts of a function from its snapshot, on the node: each a new process and a new VM, none reused.

restore/numpy_pyopencl   numpy and pyopencl imported: from the request to the first byte of the answer
restore/instance         the same until the instance is ready for its first event
restore/throughput       cold starts a second, as many at a time as the machine has cores
restore/many_functions   50 functions that share an interpreter layer, round robin, cold every time
speedup                  native `python3 -c "import numpy, pyopencl"` over restore/numpy_pyopencl
density/private_mib      private memory of an idle restored instance

Beside the first stand a fork of a warmed CPython that answers over a pipe, and a crun container with a fresh
interpreter where crun is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import uvloop

from common import kasoku_command as kasoku
from common.report import Report, Result, arguments
from common.sampling import median, percentile, ratio
from kasoku.gateway.deploy import Code, Deployer
from kasoku.home import Home
from kasoku.node.agent import NodeAgent
from kasoku.node.instance import Instance
from kasoku.node.native import Native
from kasoku.node.outcome import Invocation
from kasoku.node.site import Site
from kasoku.node.store import StoreLayers
from kasoku.registry.model import FunctionVersion

PACKAGES = ("numpy", "pyopencl")
HEAVY = """
import numpy, pyopencl

def handler(event, context):
    return {"ok": event["n"] + 1}
"""
SMALL = """
NUMBER = %d

def handler(event, context):
    return {"ok": event["n"] + 1, "number": NUMBER}
"""
FUNCTIONS = 50
WARMUP = 10


async def deploy(node: NodeAgent, layers: StoreLayers, name: str, source: str, **options: object) -> FunctionVersion:
    """Makes the function and its snapshot."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("function.py", source)
    deployer = Deployer(layers, node.site.home)
    function = await deployer.build(deployer.check(name, "function.handler", options), Code(archive.getvalue()))
    node.prepare(function)
    assert node.snapshots
    await node.snapshots.settled()
    return function


class Starter:
    """Starts instances, one event each."""

    def __init__(self, node: NodeAgent) -> None:
        self.node = node
        self.number = 0

    async def cold(self, function: FunctionVersion) -> tuple[Instance, float, float]:
        """A new instance that has answered once; milliseconds until it was ready, and until it had answered."""
        number = self.number = self.number + 1
        begin = time.perf_counter()
        instance = self.node.instance(f"i-{number:012x}", function, None)
        await instance.start()
        ready = time.perf_counter()
        outcome = await instance.invoke(Invocation("request", json.dumps({"n": number}).encode()))
        end = time.perf_counter()
        if not instance.restored or json.loads(outcome.payload)["ok"] != number + 1:
            raise RuntimeError(f"not a restored instance's answer: {outcome}")
        return instance, (ready - begin) * 1000, (end - begin) * 1000

    async def throughput(self, function: FunctionVersion, seconds: float, at_once: int) -> float:
        """Cold starts a second."""
        stop = time.perf_counter() + seconds
        done = 0

        async def loop() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                instance, _, _ = await self.cold(function)
                await instance.stop("measured")
                done += 1

        begin = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(at_once)))
        return done / (time.perf_counter() - begin)


def private_mib(pid: int) -> float:
    """Memory that a process has to itself, kernel memory aside.

    Not what /proc calls private: pages of the snapshot's memory file count there as long as one process maps them.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous")) / 1024


@contextlib.contextmanager
def zygote(python: str) -> Iterator[subprocess.Popen[bytes]]:
    """A warmed interpreter that forks for each line and answers from the child."""
    program = (
        "import os, sys, numpy, pyopencl, json\n"
        "for line in sys.stdin.buffer:\n"
        "    if (pid := os.fork()) == 0:\n"
        "        os.write(1, json.dumps({'ok': json.loads(line)['n'] + 1}).encode() + b'\\n'); os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
    )
    process = subprocess.Popen([python, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def fork_answer(process: subprocess.Popen[bytes]) -> float:
    assert process.stdin and process.stdout
    begin = time.perf_counter()
    process.stdin.write(b'{"n": 1}\n')
    if json.loads(process.stdout.readline()) != {"ok": 2}:
        raise RuntimeError("the zygote answered something else")
    return (time.perf_counter() - begin) * 1000


def container(folder: Path, python: Sequence[str]) -> list[str] | None:
    """A crun container over this machine's own files that runs a program; None where there is no crun."""
    if shutil.which("crun") is None or os.geteuid() != 0:
        return None
    config = {
        "ociVersion": "1.0.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": list(python), "env": ["PATH=/bin:/usr/bin"], "cwd": "/"},
        "root": {"path": "/", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    command = ["crun", "run", "--bundle", str(folder), "kasoku-bench"]
    works = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0
    return command if works else None


def result(name: str, samples: list[float], p50: float, p99: float, peers: dict[str, float] | None = None) -> Result:
    """A line with targets for median and tail."""
    half, tail = median(samples).value, percentile(samples, 99)
    return Result(
        name,
        "ms",
        kasoku=half,
        target=f"p50 <= {p50}, p99 <= {p99}",
        ok=half <= p50 and tail <= p99,
        n=len(samples),
        p50=half,
        p99=tail,
        peers=peers or {},
    )


async def measure(report: Report, work: Path, rounds: int) -> None:
    home = Home(work / "home").make()
    layers = StoreLayers(home)
    node = NodeAgent(Site(home, Native(), layers.path, layers.volume))
    native = kasoku.native_python(work / "venv", requirements=PACKAGES)
    imports = [native, "-c", "import numpy, pyopencl"]
    crun = container(work / "bundle", imports)
    try:
        starter = Starter(node)
        wanted = [f"{package}=={version(package)}" for package in PACKAGES]
        heavy = await deploy(node, layers, "heavy", HEAVY, requirements=wanted, memory=256)
        samples: dict[str, list[float]] = {name: [] for name in ("ready", "answer", "native", "fork", "crun", "paired")}
        private: list[float] = []
        with zygote(native) as forking:
            for number in range(-WARMUP, rounds):
                instance, ready, answer = await starter.cold(heavy)
                assert instance.pid
                await asyncio.sleep(0.01)
                private.append(private_mib(instance.pid))
                await instance.stop("measured")
                # Fresh interpreters take long: one in ten rounds says as much.
                one_in_ten = number % 10 == 0
                measured = {"ready": ready, "answer": answer, "fork": fork_answer(forking)}
                if one_in_ten:
                    measured["paired"] = answer
                    measured["native"] = kasoku.timed(imports, env={"PATH": "/bin"})
                if one_in_ten and crun:
                    measured["crun"] = kasoku.timed(crun)
                if number >= 0:
                    for name, value in measured.items():
                        samples[name].append(value)
        peers = {name: median(samples[name]).value for name in ("native", "fork", "crun") if samples[name]}
        report.add(result("restore/numpy_pyopencl", samples["answer"], 3, 10, peers))
        report.absolute("restore/instance", "ms", {"kasoku": samples["ready"]})
        speed = ratio(samples["native"], samples["paired"])
        report.add(
            Result(
                "speedup",
                "times",
                kasoku=speed.value,
                interval=(speed.low, speed.high),
                target=">= 40",
                ok=speed.low >= 40,
                n=len(samples["native"]),
            )
        )
        report.absolute("density/private_mib", "MiB", {"kasoku": private}, p50_at_most=6)
        rate = await starter.throughput(heavy, 5, (os.cpu_count() or 1) * 2)
        report.add(Result("restore/throughput", "1/s", kasoku=rate, target=">= 400", ok=rate >= 400))
        small = [await deploy(node, layers, f"f{i}", SMALL % i, memory=128) for i in range(FUNCTIONS)]
        many: list[float] = []
        for number in range(2 * FUNCTIONS):
            instance, _, answer = await starter.cold(small[number % FUNCTIONS])
            await instance.stop("measured")
            if number >= FUNCTIONS:
                many.append(answer)
        report.add(result("restore/many_functions", many, 25, 25))
    finally:
        await node.close()


def main() -> int:
    """Measures and reports."""
    options = arguments(__doc__, rounds=200)
    kasoku.require()
    report = Report("coldstart")
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(report, Path(folder), options.rounds))
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
