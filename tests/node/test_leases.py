"""Leases as functions meet them: waiting, refusing, reclaiming idle holders, taking turns."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from kasoku.sdk.errors import ServiceError
from tests.conftest import Server, eventually

SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return context.accelerator\n"


def busy(server: Server, name: str) -> bool:
    return any(i["function"] == name and i["state"] == "busy" for i in server.instances())


def test_an_idle_holder_is_stopped_when_someone_waits(server: Server) -> None:
    server.deploy("first", SLEEP, accelerator=server.device)
    server.deploy("second", SLEEP, accelerator=server.device)
    held = server.call("first", 0)
    assert held.result == server.device
    assert server.call("second", 0).result == server.device
    assert [i["function"] for i in server.instances() if i["accelerator"]] == ["second"]
    assert server.call("first", 0).detail["cold"]


def test_a_busy_holder_is_waited_for(server: Server) -> None:
    server.deploy("long", SLEEP, accelerator=server.device)
    server.deploy("short", SLEEP, accelerator=server.device)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(server.call, "long", 1)
        eventually(lambda: busy(server, "long"), "long runs")
        second = server.call("short", 0)
        assert first.done() or first.result()
    assert second.detail["timings_ms"]["lease"] > 0


def test_refused_at_once(server: Server) -> None:
    server.deploy("holder", SLEEP, accelerator=server.device)
    server.deploy("proud", SLEEP, accelerator=server.device, lease="refuse")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(server.call, "holder", 3)
        eventually(lambda: busy(server, "holder"), "holder runs")
        with pytest.raises(ServiceError, match="in use") as caught:
            server.call("proud", 0)
        assert caught.value.status == 429 and not first.done()
    eventually(lambda: not busy(server, "holder"), "holder is done")
    server.gateway.json("DELETE", "/v1/functions/holder")
    eventually(lambda: all(i["function"] != "holder" for i in server.instances()), "holder is gone")
    assert server.call("proud", 0).result == server.device
    with ThreadPoolExecutor() as pool:
        own = pool.submit(server.call, "proud", 2)
        eventually(lambda: busy(server, "proud"), "proud runs")
        with pytest.raises(ServiceError, match="by this function itself"):
            server.call("proud", 0)
        own.result()


def test_waiting_has_an_end(server: Server) -> None:
    server.deploy("hog", SLEEP, accelerator=server.device)
    server.deploy("patient", SLEEP, accelerator=server.device, lease_timeout=0.3)
    with ThreadPoolExecutor() as pool:
        hog = pool.submit(server.call, "hog", 2)
        eventually(lambda: busy(server, "hog"), "hog runs")
        with pytest.raises(ServiceError, match="became free") as caught:
            server.call("patient", 0)
        assert caught.value.status == 429
        hog.result()


def test_two_functions_take_turns_under_load(server: Server) -> None:
    for name in ("left", "right"):
        server.deploy(name, SLEEP, accelerator=server.device)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(server.call, name, 0.02) for _ in range(12) for name in ("left", "right")]
        assert {c.result().result for c in calls} == {server.device}


def test_two_devices_serve_two_instances(twin: Server) -> None:
    twin.deploy("pair", SLEEP, accelerator="opencl")
    with ThreadPoolExecutor(2) as pool:
        assert {a.result for a in pool.map(lambda _: twin.call("pair", 1.0), range(2))} <= {
            "opencl:intel:0",
            "opencl:twin:0",
        }


def test_instances_are_limited(server: Server) -> None:
    server.deploy("few", SLEEP, max_instances=2, memory=64)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.call("few", 0.1), range(6)))
    assert len({a.detail["instance"]["id"] for a in answers}) <= 2


def test_a_function_that_no_node_can_hold(server: Server) -> None:
    server.deploy("giant", SLEEP, memory=1 << 20)
    with pytest.raises(ServiceError, match="the function needs 1048576 MiB"):
        server.call("giant", 0)
