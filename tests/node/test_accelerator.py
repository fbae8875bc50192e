"""What kernels do to the instance that runs them, and to no other."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kasoku.sdk.errors import FunctionError
from tests.conftest import Server, eventually

SOURCE = """
import functools
import numpy as np
import pyopencl as cl

KERNELS = {
    "print": 'if (get_global_id(0) == 0) printf("kernel says %d\\\\n", 41 + data[0]);',
    "wild": "*(__global int *)0x10 = 1;",
    "endless": "while (((volatile __global int *)data)[0] != 77) {}",
    "fine": "data[get_global_id(0)] += 1;",
}

@functools.cache
def queue():
    return cl.CommandQueue(cl.create_some_context(interactive=False))

def handler(event, context):
    body = KERNELS[event]
    program = cl.Program(queue().context, "__kernel void k(__global int *data) { %s }" % body).build()
    data = np.ones(8, np.int32)
    buffer = cl.Buffer(queue().context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=data)
    cl.Kernel(program, "k")(queue(), (8,), None, buffer)
    cl.enqueue_copy(queue(), data, buffer)
    return data.tolist()
"""
OPTIONS: dict[str, Any] = {"requirements": ["numpy", "pyopencl"], "memory": 1024, "timeout": 20}


@pytest.fixture(scope="module")
def kernels(real: Server) -> Server:
    real.deploy("kernels", SOURCE, accelerator=real.device, **OPTIONS)
    return real


def test_what_a_kernel_prints_is_in_the_log(kernels: Server) -> None:
    kernels.call("kernels", "print")
    eventually(lambda: b"kernel says 42" in kernels.gateway.request("GET", "/v1/functions/kernels/logs")[2], "the text")


def test_a_device_can_be_presented_as_another_kind(kernels: Server) -> None:
    source = "import pyopencl as cl\n\ndef handler(event, context):\n"
    source += "    return [d.name for p in cl.get_platforms() for d in p.get_devices(cl.device_type.GPU)]\n"
    kernels.deploy("presented", source, accelerator=kernels.device, present="gpu", **OPTIONS)
    assert len(kernels.call("presented", None).result) == 1


def test_a_wild_pointer_ends_its_own_instance_only(kernels: Server) -> None:
    kernels.deploy("bystander", "def handler(event, context):\n    return event\n")
    other = kernels.call("bystander", 1).detail["instance"]["id"]
    with pytest.raises(FunctionError) as caught:
        kernels.call("kernels", "wild")
    assert caught.value.type
    again = kernels.call("kernels", "fine")
    assert again.result == [2] * 8 and again.detail["cold"]
    assert kernels.call("bystander", 2).detail["instance"]["id"] == other


def test_a_kernel_that_never_ends_is_ended_by_the_timeout(kernels: Server) -> None:
    kernels.deploy("endless", SOURCE, accelerator=kernels.device, **{**OPTIONS, "timeout": 4})
    with ThreadPoolExecutor() as pool:
        endless = pool.submit(kernels.call, "endless", "endless")
        waiting = pool.submit(kernels.call, "kernels", "fine")
        with pytest.raises(FunctionError, match="timed out"):
            endless.result()
        assert waiting.result().result == [2] * 8
