"""Cold starts of a function from its snapshot, on the node: each a new process and a new VM, none reused.

restore/numpy_pyopencl   numpy and pyopencl imported: from the request to the first byte of the answer
restore/instance         the same until the instance is ready for its first event
restore/accelerator      context, program and 1 MiB of weights restored on a device: until the first kernel's answer,
                         with a broker that stands by (it has opened the device, and holds nothing)
restore/accelerator_opening   the same where the device must be opened first
restore/session_mib      what each further MiB of weights costs there
restore/throughput       cold starts a second, as many at a time as the machine has cores
restore/many_functions   50 functions that share an interpreter layer, round robin, cold every time
reset/1MiB               an instance is put back to its snapshot after an invocation that wrote 1 MiB
reset/ready              the same until it is ready for its next event
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
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import uvloop

from common import kasoku_command as kasoku
from common.report import Report, Result, arguments
from common.sampling import median, percentile, ratio
from kasoku.gateway.deploy import Code, Deployer
from kasoku.home import Home
from kasoku.leases.model import Device, Lease
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
RESIDENT = '''
import numpy as np
import pyopencl as cl

context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
program = cl.Program(context, """
__kernel void add(__global const int *weights, __global int *out, int n) {
    out[get_global_id(0)] = weights[get_global_id(0)] + n;
}""").build()
weights = np.full(1 << 18, 1, np.int32)
flags = cl.mem_flags
loaded = cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=weights)
made = cl.Buffer(context, flags.READ_WRITE, 4096)
add = cl.Kernel(program, "add")
out = np.empty(1024, np.int32)

def run(n):
    add(queue, out.shape, None, loaded, made, np.int32(n))
    cl.enqueue_copy(queue, out, made)
    return int(out[-1])

run(0)

def handler(event, context):
    return {"ok": run(event["n"])}
'''
WRITING = """
region = bytearray(1 << 20)

def handler(event, context):
    region[::4096] = bytes([event["n"] % 255 + 1]) * (len(region) // 4096)
    return {"ok": event["n"] + 1}
"""
SMALL = """
NUMBER = %d

def handler(event, context):
    return {"ok": event["n"] + 1, "number": NUMBER}
"""
FUNCTIONS = 50
WARMUP = 10
ACCELERATOR_ROUNDS = 60
LARGE_MIB = 32
"""Weights of the larger of two sessions that are compared."""


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

    async def cold(self, function: FunctionVersion, lease: Lease | None = None) -> tuple[Instance, float, float]:
        """A new instance that has answered once; milliseconds until it was ready, and until it had answered."""
        number = self.number = self.number + 1
        begin = time.perf_counter()
        instance = self.node.instance(f"i-{number:012x}", function, lease)
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


async def accelerator(
    report: Report, node: NodeAgent, layers: StoreLayers, starter: Starter, device: Device, wanted: list[str]
) -> None:
    """The same with a session."""
    lease = Lease(device, "benchmark", 1, math.inf)

    @contextlib.asynccontextmanager
    async def lend(_: FunctionVersion) -> AsyncIterator[Lease]:
        yield lease

    node.lend_devices(lend)
    options = {"requirements": wanted, "memory": 256, "arena": 32, "accelerator": device.full_id}
    function = await deploy(node, layers, "resident", RESIDENT, **options)
    answers = await resident(node, starter, function, lease, ACCELERATOR_ROUNDS)
    report.add(result("restore/accelerator", answers, 5, 50))
    source = RESIDENT.replace("1 << 18", f"{LARGE_MIB} << 18")
    large = await deploy(node, layers, "large", source, **{**options, "memory": 512, "arena": 4 * LARGE_MIB})
    more = await resident(node, starter, large, lease, ACCELERATOR_ROUNDS // 2)
    each = (median(more).value - median(answers).value) / (LARGE_MIB - 1)
    report.add(Result("restore/session_mib", "ms", kasoku=each, target="<= 0.2", ok=each <= 0.2, n=len(more)))
    # The same where no broker stands by.
    standbys, node.standbys = node.standbys, None
    opening = await resident(node, starter, function, lease, ACCELERATOR_ROUNDS // 4)
    node.standbys = standbys
    report.absolute("restore/accelerator_opening", "ms", {"kasoku": opening})


async def resident(
    node: NodeAgent, starter: Starter, function: FunctionVersion, lease: Lease, rounds: int
) -> list[float]:
    """Milliseconds until clones of a function with a session have answered, one after the other."""
    answers: list[float] = []
    for number in range(-3, rounds):
        if node.standbys:
            await node.standbys.settled()
        lease.epoch += 1
        instance, _, answer = await starter.cold(function, lease)
        await instance.stop("measured")
        if number >= 0:
            answers.append(answer)
    return answers


async def put_back(report: Report, node: NodeAgent, layers: StoreLayers, starter: Starter, rounds: int) -> None:
    """One instance that is put back after each invocation."""
    function = await deploy(node, layers, "writing", WRITING, memory=256, isolation="invocation")
    instance, _, _ = await starter.cold(function)
    memory: list[float] = []
    ready: list[float] = []
    for number in range(-WARMUP, rounds):
        if not await instance.reset():
            raise RuntimeError("an instance cannot be put back")
        if number >= 0:
            memory.append(instance.timings["reset_memory_ms"])
            ready.append(instance.timings["reset_ms"])
        await instance.invoke(Invocation("request", json.dumps({"n": number + WARMUP}).encode()))
    await instance.stop("measured")
    report.absolute("reset/1MiB", "ms", {"kasoku": memory}, p50_at_most=0.1)
    report.absolute("reset/ready", "ms", {"kasoku": ready})


async def measure(report: Report, work: Path, rounds: int) -> None:
    home = Home(work / "home").make()
    layers = StoreLayers(home)
    node = NodeAgent(Site(home, Native(), layers.path, layers.volume))
    devices = await node.find_devices()
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
        await put_back(report, node, layers, starter, rounds)
        if devices:
            await accelerator(report, node, layers, starter, devices[0], wanted)
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
