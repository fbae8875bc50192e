"""Every accelerator that this program finds: what it is, and whether it computes. They compute at the same time."""

import json
from importlib import import_module
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")
SOURCE = "kernel void k(global int *a, int b) { a[get_global_id(0)] += b; }"
GPU = cl.device_type.GPU


def in_one_context(devices: list[Any]) -> bool:
    """A program for all of `devices`, a buffer that each changes in its turn, events between their queues."""
    context = cl.Context(devices)
    queues = [cl.CommandQueue(context, device) for device in devices]
    program = cl.Program(context, SOURCE).build()
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=np.zeros(1000, np.int32))
    kernel = cl.Kernel(program, "k")
    before = None
    for number, queue in enumerate(queues):
        kernel.set_args(buffer, np.int32(10**number))
        before = cl.enqueue_nd_range_kernel(queue, kernel, (1000,), None, wait_for=before and [before])
        queue.flush()
    out = np.empty(1000, np.int32)
    cl.enqueue_copy(queues[0], out, buffer, wait_for=[before])
    binaries = program.get_info(cl.program_info.BINARIES)
    own = [queue.device == device for queue, device in zip(queues, devices, strict=True)]
    expected = sum(10**number for number in range(len(devices)))
    return bool((out == expected).all()) and all(own) and len(binaries) == len(devices)


def main() -> None:
    devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    work = []
    for number, device in enumerate(devices):
        context = cl.Context([device])
        queue = cl.CommandQueue(context)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        buffer = cl.Buffer(context, flags, hostbuf=np.arange(1000, dtype=np.int32))
        kernel = cl.Kernel(cl.Program(context, SOURCE).build(), "k")
        kernel.set_args(buffer, np.int32(number))
        cl.enqueue_nd_range_kernel(queue, kernel, (1000,), None)
        work.append((queue, buffer, number))
    right = []
    for queue, buffer, number in work:
        out = np.empty(1000, np.int32)
        cl.enqueue_copy(queue, out, buffer)
        right.append(bool((out == np.arange(1000) + number).all()))
    foreign = None
    if len(work) > 1:
        try:
            cl.enqueue_copy(work[0][0], np.empty(1000, np.int32), work[1][1])
        except cl.Error as error:
            foreign = error.code
    together = {platform.name: in_one_context(platform.get_devices()) for platform in cl.get_platforms()}
    names = [platform.name for platform in cl.get_platforms()]
    gpus = sum(bool(device.type & GPU) for device in devices)
    print(json.dumps({"platforms": names, "gpus": gpus, "right": right, "foreign": foreign, "together": together}))


main()
