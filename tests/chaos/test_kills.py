"""Processes are killed at random under load with known answers: what was acknowledged happens, nothing wrong is said.

Gateway with node agent, virtual machines, brokers; and the clock is set, forward by more than a call may be old, and
back. Synchronous callers get the right answer or an error that they may try again. Every acknowledged asynchronous
call is done in the end. After it nothing is left.
"""

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kasoku.sdk.errors import FunctionError, KasokuError, ServiceError
from kasoku.sdk.remote import Gateway
from tests.conftest import Server, eventually, start_real, start_twin

SOURCE = """
import time
def handler(event, context):
    time.sleep(event % 7 / 100)
    return event * event + 1
"""
KILLS = 8
ANSWERS = 20
MAX_SECONDS = 120.0
RETRYABLE = ("ServiceException", "TooManyRequestsException")


class Load:
    """Callers, and what they were told."""

    def __init__(self, home: Path, functions: Sequence[str]) -> None:
        self._home = home
        self._functions = functions
        self._stop = threading.Event()
        self.right = 0
        self.wrong: list[str] = []
        self.accepted: dict[str, int] = {}
        """Acknowledged calls and the number that each was sent."""
        self._threads = [threading.Thread(target=work) for work in (self._call, self._call, self._spawn, self._spawn)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _call(self) -> None:
        while not self._stop.is_set():
            number = random.randrange(1000)
            try:
                result = Gateway.find(self._home, timeout=30).invoke(random.choice(self._functions), number).result
            except ServiceError as error:
                if error.code not in RETRYABLE:
                    self.wrong.append(str(error))
            except FunctionError as error:
                self.wrong.append(f"the function is said to have failed: {error}")
            except KasokuError:
                time.sleep(0.05)  # the gateway is away
            else:
                self.right += 1
                if result != number * number + 1:
                    self.wrong.append(f"{number} gave {result}")

    def _spawn(self) -> None:
        while not self._stop.is_set():
            number = random.randrange(1000)
            try:
                name = random.choice(self._functions)
                self.accepted[Gateway.find(self._home, timeout=30).spawn(name, number)] = number
            except (KasokuError, ValueError):
                time.sleep(0.05)
            time.sleep(0.01)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["twin", "vm"])
def test_random_kills_under_load(kind: str, twin_binaries: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"

    def start() -> Server:
        if kind == "twin":
            return start_twin(home, twin_binaries)
        return start_real(home)

    server = start()
    functions = ["work"]
    server.deploy("work", SOURCE, max_instances=3, memory=128)
    if kind == "twin":
        # Real brokers that are killed: tests/node/test_accelerator.py.
        functions.append("held")
        server.deploy("held", SOURCE, max_instances=3, memory=128, accelerator="opencl:gpu")
    load = Load(home, functions)
    started: set[int] = set()
    steps = itertools.cycle([signal.SIGUSR1, signal.SIGUSR2])
    load.start()
    try:
        # Until enough has happened, however slow the machine is.
        deadline, kills, restarted = time.monotonic() + MAX_SECONDS, 0, False
        while kills < KILLS or load.right < ANSWERS or len(load.accepted) < ANSWERS:
            assert time.monotonic() < deadline, (kills, load.right, len(load.accepted), load.wrong)
            time.sleep(random.uniform(0.1, 0.5))
            started |= server.children()
            processes = [i[part] for i in server.instances() for part in ("vmm_pid", "broker_pid") if i[part]]
            if processes and kills < KILLS:
                kill(random.choice(processes))
                kills += 1
                if kind == "twin":
                    server.process.send_signal(next(steps))
            if kills > KILLS / 2 and not restarted:
                restarted = True
                started |= server.children()
                server.kill()
                server = start()
        load.stop()
        assert load.wrong == []
        told: dict[str, Any] = {id: server.gateway.json("GET", f"/v1/calls/{id}?wait=60") for id in load.accepted}
        assert {id: (t["state"], t.get("result")) for id, t in told.items()} == {
            id: ("done", number * number + 1) for id, number in load.accepted.items()
        }
        started |= server.children()
    finally:
        load.stop()
        server.stop()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "every process is gone")


def test_a_stopped_vm_does_not_hold_up_others(twin_binaries: Path, tmp_path: Path) -> None:
    server = start_twin(tmp_path / "home", twin_binaries)
    try:
        server.deploy("work", SOURCE, max_instances=2, timeout=2)
        pid = server.call("work", 1).detail["instance"]["vmm_pid"]
        paused = [pid, *[p for p in server.children() if p > pid]]
        for process in paused:
            os.kill(process, signal.SIGSTOP)
        # It is the instance that would be picked: the call times out as any that hangs, and the instance is ended.
        with pytest.raises(FunctionError, match="timed out after 2"):
            server.call("work", 1)
        assert [server.call("work", n).result for n in range(3)] == [1, 2, 5]
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the paused one is gone")
    finally:
        server.stop()
