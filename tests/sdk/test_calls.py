"""`.map`, `.spawn`, `.stream`, arrays and remote errors, on twins and in real virtual machines."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kasoku
from kasoku.sdk.call import Call, CallError
from kasoku.sdk.errors import FunctionError
from kasoku.sdk.remote import Gateway
from tests.conftest import Server
from tests.gateway.lambda_client import make_client

SOURCE = """
import time
import kasoku

app = kasoku.App("calls")

@app.function(memory=256)
def double(x, extra=0):
    return 2 * x + extra

@app.function(memory=256)
def late(x):
    time.sleep(0.3 if x == 0 else 0.0)
    return x

@app.function(memory=256)
def fail(kind):
    own = type("OwnError", (Exception,), {})
    raise {"zero": ZeroDivisionError, "key": KeyError, "own": own}[kind]("told")

@app.function(memory=256)
def count(n, stop=None):
    for i in range(n):
        if i == stop:
            raise LookupError(str(i))
        yield {"i": i}

@app.function(memory=256)
async def tick(n):
    for i in range(n):
        yield i
"""
app = kasoku.App("calls")


@app.function
def double(x: Any, extra: int = 0) -> Any:
    return 2 * x + extra


@app.function
def late(x: int) -> int:
    return x


@app.function
def fail(kind: str) -> None:
    raise AssertionError(kind)


@app.function
def count(n: int, stop: int | None = None) -> Iterator[dict[str, int]]:
    yield {"i": n}


@app.function
def tick(n: int) -> Iterator[int]:
    yield n


@pytest.fixture(scope="module", autouse=True)
def deployed(server: Server) -> Iterator[Server]:
    """The functions, found by their callers through the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KASOKU_URL", server.url)
        for name in ("double", "late", "fail", "count", "tick"):
            requirements = ["numpy"] if name == "double" and server.real else []
            options = {"memory": 256, "requirements": requirements, "max_instances": 2}
            server.deploy(f"calls-{name}", SOURCE, f"function.{name}", **options)
        yield server


def test_map_in_order_and_as_they_come() -> None:
    assert list(double.map(range(20), kwargs={"extra": 1})) == [2 * n + 1 for n in range(20)]
    assert sorted(double.map(range(20), ordered=False)) == [2 * n for n in range(20)]
    assert list(late.map(range(4))) == [0, 1, 2, 3]
    assert next(iter(late.map(range(4), ordered=False))) != 0, "the slow one does not hold up the others"


def test_map_takes_no_more_than_it_must() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for n in itertools.count():
            taken += 1
            yield n

    results = double.map(endless(), concurrency=2)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    time.sleep(0.2)
    assert taken <= 5 + 4
    results.close()  # type: ignore[attr-defined]


def test_map_and_failures() -> None:
    with pytest.raises(TypeError):
        list(double.map([1, None, 2]))
    kinds = [type(r) for r in double.map([1, None, 2], return_exceptions=True)]
    assert kinds[0] is kinds[2] is int and issubclass(kinds[1], TypeError)


@pytest.mark.parametrize(("kind", "expected"), [("zero", ZeroDivisionError), ("key", KeyError), ("own", FunctionError)])
def test_errors_are_those_of_the_function(kind: str, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught:
        fail.remote(kind)
    assert isinstance(caught.value, FunctionError)
    assert "told" in caught.value.message and "function.py" in caught.value.stack_trace[-1]
    assert "Traceback in the function" in str(caught.value)


def test_spawn_result_and_cancel() -> None:
    call = double.spawn(21)
    assert call.result(30) == 42 and Call(call.id).status()["state"] == "done"
    with pytest.raises(CallError, match="cancelled"):
        cancelled = late.spawn(0)
        cancelled.cancel()
        if cancelled.status()["state"] == "done":  # it was quicker
            raise CallError("cancelled")
        cancelled.result(30)


def test_streams() -> None:
    assert list(count.stream(3)) == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert list(tick.stream(3)) == [0, 1, 2]
    whole: Any = count.remote(2)
    assert whole == [{"i": 0}, {"i": 1}], "without a stream it is a list"
    stream = count.stream(5, stop=2)
    assert [next(stream), next(stream)] == [{"i": 0}, {"i": 1}]
    with pytest.raises(LookupError):
        next(stream)
    early = count.stream(10**9)
    assert next(early) == {"i": 0}
    early.close()  # type: ignore[attr-defined]
    assert list(count.stream(1)) == [{"i": 0}], "the others are not held up by it"


def test_lambda_s_response_stream(server: Server) -> None:
    answer = make_client(server.url).invoke_with_response_stream(
        FunctionName="calls-count", Payload=json.dumps({"n": 3}), LogType="Tail"
    )
    events = list(answer["EventStream"])
    parts = [json.loads(e["PayloadChunk"]["Payload"]) for e in events if "PayloadChunk" in e]
    assert parts == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert "LogResult" in events[-1]["InvokeComplete"] and "ErrorCode" not in events[-1]["InvokeComplete"]
    answer = make_client(server.url).invoke_with_response_stream(FunctionName="calls-fail", Payload='{"kind": "zero"}')
    assert list(answer["EventStream"])[-1]["InvokeComplete"]["ErrorCode"] == "ZeroDivisionError"


def test_arrays() -> None:
    array = np.arange(1_000_00, dtype=np.float32).reshape(100, -1)
    result = double.remote({"deep": [array]}["deep"][0])
    assert result.dtype == np.float32 and np.array_equal(result, 2 * array)
    assert double.remote(np.float64(1.5)) == 3.0


def test_coroutines() -> None:
    async def together() -> list[Any]:
        one, two = await asyncio.gather(double.aremote(1), double.aremote(2))
        mapped = [r async for r in double.amap([1, 2])]
        streamed = [i async for i in count.astream(2)]
        spawned = await double.aspawn(5)
        return [one, two, mapped, streamed, await asyncio.to_thread(spawned.result, 30)]

    assert asyncio.run(together()) == [2, 4, [2, 4], [{"i": 0}, {"i": 1}], 10]


def test_a_connection_that_lay_idle_is_not_used_again(server: Server) -> None:
    gateway = Gateway(server.url)
    assert gateway.invoke("calls-double", {"x": 1}).result == 2
    gateway._local.used_at -= 100
    gateway._local.connection.sock.close()
    assert gateway.invoke("calls-double", {"x": 1}).result == 2


def test_the_sdk_stays_light() -> None:
    code = "import sys, kasoku.sdk.function, kasoku.sdk.app; print('numpy' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
