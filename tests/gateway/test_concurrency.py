"""Functions whose instances serve several invocations at a time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kasoku.sdk.errors import FunctionError, KasokuError, ServiceError
from tests.conftest import Server, eventually

SOURCE = """
import asyncio, os, sys, threading, time
import kasoku

threads, coroutines, late = threading.Barrier(4), None, threading.Event()
lock, running, peak = threading.Lock(), 0, 0

def handler(event, context):
    match event["do"]:
        case "meet":
            kasoku.record_phase(f"phase {event['n']}", 1)
            threads.wait(20)
            return {"n": event["n"], "id": context.aws_request_id}
        case "meet in a loop":
            return meet(event["n"])
        case "count":
            return count()
        case "hang":
            time.sleep(13)
            late.set()
        case "wait for the hanging one":
            return late.wait(20)
        case "exit":
            sys.exit(3)
        case "parts":
            return (n for n in range(3))
    return "at once"

async def meet(n):
    global coroutines
    coroutines = coroutines or asyncio.Barrier(4)
    await asyncio.wait_for(coroutines.wait(), 20)
    return [n, id(asyncio.get_running_loop())]

def count():
    global running, peak
    with lock:
        running += 1
        peak = max(peak, running)
    time.sleep(0.02)
    with lock:
        running -= 1
    return peak
"""
OPTIONS: dict[str, Any] = {"memory": 1024, "max_instances": 1, "concurrency": 4}


def together(server: Server, name: str, events: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(events)) as threads:
        return list(threads.map(lambda event: server.call(name, event), events))


def test_events_meet_in_one_instance(server: Server) -> None:
    server.deploy("beside", SOURCE, **OPTIONS)
    answers = together(server, "beside", [{"do": "meet", "n": n} for n in range(4)])
    assert [a.result["n"] for a in answers] == [0, 1, 2, 3]
    assert [a.result["id"] for a in answers] == [a.detail["request_id"] for a in answers]
    assert [list(a.detail["phases_ms"]) for a in answers] == [[f"phase {n}"] for n in range(4)]
    assert len({a.detail["instance"]["id"] for a in answers}) == 1
    loops = together(server, "beside", [{"do": "meet in a loop", "n": n} for n in range(4)])
    assert [a.result[0] for a in loops] == [0, 1, 2, 3]
    assert len({a.result[1] for a in loops}) == 1, "coroutines of all share one loop"


def test_no_more_than_it_serves_and_the_rest_waits(server: Server) -> None:
    server.deploy("beside", SOURCE, **OPTIONS | {"concurrency": 2})
    peaks = [a.result for a in together(server, "beside", [{"do": "count"}] * 12)]
    assert max(peaks) <= 2
    assert [i["outstanding"] for i in server.instances() if i["function"] == "beside" and i["state"] == "idle"] == [0]


def test_a_stream_beside_a_call(server: Server) -> None:
    server.deploy("beside", SOURCE, **OPTIONS)
    stream = server.gateway.stream("beside", {"do": "parts"})
    assert next(stream) == 0
    assert server.call("beside", {"do": "nothing"}).result == "at once"
    assert list(stream) == [1, 2]


def test_one_that_is_out_of_time_leaves_the_others_alone(twin: Server) -> None:
    twin.deploy("beside", SOURCE, **OPTIONS | {"timeout": 10})
    first = twin.call("beside", {"do": "nothing"}).detail["instance"]["id"]
    told: list[str] = []

    def hang() -> None:
        try:
            twin.call("beside", {"do": "hang"})
        except FunctionError as error:
            told.append(error.message)

    hanging = threading.Thread(target=hang)
    hanging.start()
    eventually(lambda: any(i["outstanding"] for i in twin.instances()), "it hangs")
    time.sleep(6)  # so that the one behind it is in time
    other = twin.call("beside", {"do": "wait for the hanging one"})
    hanging.join()
    assert other.result is True and other.detail["instance"]["id"] == first
    assert len(told) == 1 and "timed out after 10" in told[0]
    assert twin.call("beside", {"do": "nothing"}).detail["instance"]["id"] != first


def test_one_that_exits_takes_the_others_along(server: Server) -> None:
    server.deploy("beside", SOURCE, **OPTIONS)
    told: list[KasokuError] = []

    def wait() -> None:
        try:
            server.call("beside", {"do": "wait for the hanging one"})
        except KasokuError as error:
            told.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: any(i["outstanding"] for i in server.instances()), "it waits")
    with pytest.raises(FunctionError, match="exit status 3"):
        server.call("beside", {"do": "exit"})
    waiting.join()
    assert isinstance(told[0], ServiceError | FunctionError)
    assert server.call("beside", {"do": "nothing"}).result == "at once"


def test_what_cannot_be(twin: Server) -> None:
    for wrong in ({"concurrency": 0}, {"concurrency": 1001}, {"concurrency": 2, "isolation": "invocation"}):
        with pytest.raises(ServiceError, match="concurrency"):
            twin.deploy("wrong", SOURCE, **wrong)
