"""Goes on after what serves its device was killed: says when it may be, and waits until it was."""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")
READY, KILLED = Path(sys.argv[1]), Path(sys.argv[2])
SOURCE = "kernel void k(global int *a, int b) { a[get_global_id(0)] += b; }"


def main() -> None:
    context = cl.create_some_context(interactive=False)
    queue = cl.CommandQueue(context)
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    buffer = cl.Buffer(context, flags, hostbuf=np.arange(1000, dtype=np.int32))
    kernel = cl.Kernel(cl.Program(context, SOURCE).build(), "k")
    kernel.set_args(buffer, np.int32(5))
    image = cl.image_from_array(context, np.full((8, 8), 7, np.uint8), 1)
    cl.enqueue_nd_range_kernel(queue, kernel, (1000,), None)
    queue.finish()
    gate = cl.UserEvent(context)
    out = np.empty(1000, np.int32)
    READY.touch()
    while not KILLED.exists():
        time.sleep(0.01)
    cl.enqueue_copy(queue, out, buffer)
    checks = {"kept": bool((out == np.arange(1000) + 5).all())}
    cl.enqueue_nd_range_kernel(queue, kernel, (1000,), None, wait_for=[gate])
    gate.set_status(0)
    cl.enqueue_copy(queue, out, buffer)
    checks["goes on"] = bool((out == np.arange(1000) + 10).all())
    pixels = np.zeros((8, 8), np.uint8)
    cl.enqueue_copy(queue, pixels, image, origin=(0, 0), region=(8, 8))
    checks["image"] = bool((pixels == 7).all())
    print(json.dumps(checks))


main()
