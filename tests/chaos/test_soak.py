"""A load that goes on: memory and descriptors of the server stay what they were, and no process is left behind.

A minute of it in every test run, half an hour with `make soak`.
"""

import random
import threading
import time
from pathlib import Path

import pytest

from kasoku.sdk.errors import KasokuError
from kasoku.sdk.remote import Gateway
from tests.conftest import Server, eventually, start_real

SOURCE = """
import time
def handler(event, context):
    print("at work on", event)
    time.sleep(event % 5 / 1000)
    if event % 97 == 0:
        raise ValueError(event)
    if event % 211 == 0:
        raise SystemExit(3)
    return event * 2
"""
SETTLE_SHARE = 0.4
"""Of the time, before what is used is noted: caches, pools and the interpreter's arenas fill up first."""
GROWTH_KIB, GROWTH_KIB_AN_HOUR = 8 << 10, 16 << 10


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Load:
    """Callers of all kinds, and what went wrong."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stop = threading.Event()
        self.answers = 0
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in ("call", "call", "spawn")]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind: str) -> None:
        gateway = Gateway.find(self._home, timeout=60)
        chance = random.Random(kind)
        while not self._stop.is_set():
            number = chance.randrange(1, 2000)
            expected = None if number % 97 == 0 or number % 211 == 0 else number * 2
            try:
                if kind == "call":
                    result = gateway.invoke("work", number).result
                else:
                    told = gateway.json("GET", f"/v1/calls/{gateway.spawn('work', 2)}?wait=30")
                    result, expected = told.get("result"), 4
                self.answers += 1
                if result != expected:
                    self.wrong.append(f"{kind} {number}: {result}")
            except KasokuError as error:
                if expected is not None:
                    self.wrong.append(f"{kind} {number}: {error}")
            time.sleep(0.002)


@pytest.mark.timeout(7200)
def test_memory_and_descriptors_stay_flat(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seconds = float(pytestconfig.getoption("--soak"))
    server = start_real(tmp_path / "home")
    try:
        server.deploy("work", SOURCE, memory=128, max_instances=2, idle_timeout=1)
        begun = time.monotonic()
        with Load(server.home) as load:
            _deploy_until(server, begun + seconds * SETTLE_SHARE)
            before, at = resident_kib(server.process.pid), time.monotonic()
            _deploy_until(server, begun + seconds)
            after, hours = resident_kib(server.process.pid), (time.monotonic() - at) / 3600
        assert load.wrong == [] and load.answers > seconds
        assert after - before < GROWTH_KIB + hours * GROWTH_KIB_AN_HOUR, (before, after, load.answers)
        server.gateway.json("DELETE", "/v1/functions/work")
        eventually(lambda: not server.instances(), "no instance is left")
        eventually(lambda: not server.children(), "no process is left")
        quiet = server.descriptors()
        server.deploy("work", SOURCE, memory=128, max_instances=2, idle_timeout=0.1)
        assert server.call("work", 1).result == 2
        server.gateway.json("DELETE", "/v1/functions/work")
        eventually(lambda: not server.children() and server.descriptors() <= quiet, "descriptors are closed again")
    finally:
        server.stop()


def _deploy_until(server: Server, deadline: float) -> None:
    """New versions meanwhile: old ones drain, logs and the registry change hands."""
    number = 0
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(5.0, left))
        number += 1
        server.deploy("work", SOURCE + f"# {number}\n", memory=128, max_instances=2, idle_timeout=1)
