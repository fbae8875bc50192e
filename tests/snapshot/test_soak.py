"""Instances that are restored, called and ended, many times over, leave nothing behind on the host."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Server, eventually, start_real
from tests.snapshot.test_functions import OPENCL, RESIDENT, deploy, stands_by, was_restored

AT_ONCE = 4
WARM_UP = 60
MAX_GROWTH_MIB = 24
"""Python's own heap moves by some MiB; a page for each instance would be twice that in 5,000 of them."""


def standing(server: Server) -> tuple[int, int, float, float]:
    """Descriptors, processes, resident MiB and MiB of memory files of a server that does nothing."""
    pid = server.process.pid
    eventually(lambda: server.instances() == [], "all instances end")
    memory = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            memory += os.stat(f"/proc/{pid}/fd/{name}").st_blocks * 512 if link.startswith("/memfd:") else 0
        except FileNotFoundError:
            continue
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return server.descriptors(), len(server.children()), int(status["VmRSS"].split()[0]) / 1024, memory / (1 << 20)


def settle(server: Server) -> tuple[int, int, float, float]:
    """The same, once blank monitors are there again and connections are closed."""
    last = standing(server)
    for _ in range(40):
        now = standing(server)
        if now[:2] == last[:2]:
            break
        last = now
    return last


def settle_beside_broker(server: Server) -> tuple[int, int, float, float]:
    """The same, with a broker that stands by: one follows a moment after the last was taken."""
    standing(server)
    eventually(lambda: stands_by(server), "a broker stands by")
    return settle(server)


def check(before: tuple[int, int, float, float], after: tuple[int, int, float, float]) -> None:
    assert after[0] <= before[0] + 4, f"{before[0]} descriptors became {after[0]}"
    assert after[1] <= before[1] + 1, f"{before[1]} processes became {after[1]}"
    assert after[2] <= before[2] + MAX_GROWTH_MIB, f"{before[2]:.0f} MiB resident became {after[2]:.0f}"
    assert after[3] <= before[3] + 1, f"{before[3]:.1f} MiB of memory files became {after[3]:.1f}"


def test_nothing_grows(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = start_real(tmp_path / "home", snapshots=True)
    try:
        # One function for each caller: none is handed what another has just used.
        for caller in range(AT_ONCE):
            deploy(server, f"short{caller}", "def handler(event, context): return event\n", memory=64)

        def run(caller: int, count: int) -> bool:
            answers = [server.call(f"short{caller}", number) for number in range(1, 1 + count)]
            return all(was_restored(answer) and answer.result == n for n, answer in enumerate(answers, 1))

        with ThreadPoolExecutor(AT_ONCE) as pool:
            assert all(pool.map(run, range(AT_ONCE), [WARM_UP // AT_ONCE] * AT_ONCE))
            before = settle(server)
            assert all(pool.map(run, range(AT_ONCE), [request.config.getoption("--instances") // AT_ONCE] * AT_ONCE))
        check(before, settle(server))
        if server.device != "none":
            deploy(server, "resident", RESIDENT, accelerator=server.device, **OPENCL)
            assert server.call("resident", 2).result == [True, True]
            before = settle(server)
            for factor in range(10):
                assert server.call("resident", factor).result == [True, True]
            check(before, settle(server))
        assert not list((tmp_path / "home").rglob("*.tmp"))
    finally:
        server.stop()
