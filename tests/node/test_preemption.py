"""A device goes to a higher priority in the middle of an invocation, which then goes on as if nothing had been."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.conftest import Server, eventually
from tests.node.test_leases import busy

SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return context.accelerator\n"
COUNT = """
import time
import numpy as np
import pyopencl as cl

def handler(event, context):
    queue = cl.CommandQueue(cl.create_some_context(interactive=False))
    program = cl.Program(queue.context, "__kernel void k(__global int *data) { data[get_global_id(0)] += 1; }").build()
    kernel = cl.Kernel(program, "k")
    data = np.zeros(1024, np.int32)
    buffer = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=data)
    print("counting", flush=True)
    for _ in range(event["launches"]):
        kernel(queue, data.shape, None, buffer)
        queue.finish()
        time.sleep(event["pause"])
    cl.enqueue_copy(queue, data, buffer)
    return [int(data.min()), int(data.max())]
"""
OPTIONS: dict[str, Any] = {"requirements": ["numpy", "pyopencl"], "memory": 1024}


def told(server: Server, name: str) -> str:
    return " ".join(e["text"] for e in server.gateway.json("GET", "/v1/events") if e.get("function") == name)


def test_the_view_of_holders_and_waiters(twin: Server) -> None:
    twin.deploy("low", SLEEP, accelerator="opencl:gpu", priority=1, timeout=8)
    twin.deploy("equal", SLEEP, accelerator="opencl:gpu", priority=1)
    twin.deploy("high", SLEEP, accelerator="opencl:gpu", priority=2)
    with ThreadPoolExecutor() as pool:
        low = pool.submit(twin.call, "low", 6.0)
        eventually(lambda: busy(twin, "low"), "low works")
        equal = pool.submit(twin.call, "equal", 0)
        eventually(lambda: [w["function"] for w in leases(twin)["waiters"]] == ["equal"], "equal waits")
        high = pool.submit(twin.call, "high", 3.0)
        eventually(lambda: [h["function"] for h in leases(twin)["holders"]] == ["high"], "high has taken it")
        waiting = {w["function"]: w["suspended"] for w in leases(twin)["waiters"]}
        assert waiting == {"low": True, "equal": False}
        assert {call.result().result for call in (low, equal, high)} == {"opencl:twin:0"}
    assert "is suspended" in told(twin, "low") and "is suspended" not in told(twin, "equal")


def leases(server: Server) -> dict[str, Any]:
    found = server.gateway.json("GET", "/v1/leases")
    assert isinstance(found, dict)
    return found


def test_a_session_is_taken_away_and_given_back(real: Server) -> None:
    real.deploy("low", COUNT, accelerator=real.device, priority=-1, **OPTIONS)
    real.deploy("high", COUNT, accelerator=real.device, priority=1, **OPTIONS)
    with ThreadPoolExecutor() as pool:
        low = pool.submit(real.call, "low", {"launches": 80, "pause": 0.05})
        logs = "/v1/functions/low/logs"
        eventually(lambda: b"counting" in real.gateway.request("GET", logs)[2], "it works", 60)
        high = real.call("high", {"launches": 3, "pause": 0.0})
        assert high.result == [3, 3] and not low.done()
        assert low.result().result == [80, 80], "what was on the device is there again"
    assert "is suspended" in told(real, "low") and "goes on with" in told(real, "low")
