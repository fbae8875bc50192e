"""Waits for a kernel that the program holds up, until the broker dies; then goes on calling."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")


def code_of(call: Callable[[], object]) -> int:
    try:
        call()
    except cl.Error as error:
        return int(error.code)
    return 0


def main() -> None:
    context = cl.Context([cl.get_platforms()[0].get_devices()[0]])
    queue = cl.CommandQueue(context)
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4096)
    program = cl.Program(context, "__kernel void f(__global int *a) { a[0] = 1; }").build()
    kernel = program.f
    gate = cl.UserEvent(context)
    kernel(queue, (1,), None, buffer, wait_for=[gate])
    Path(sys.argv[1]).touch()
    waiting = code_of(queue.finish)
    data = np.zeros(1024, np.int32)
    later = {
        "finish": code_of(queue.finish),
        "read": code_of(lambda: cl.enqueue_copy(queue, data, buffer)),
        "write": code_of(lambda: cl.enqueue_copy(queue, buffer, data, is_blocking=False)),
        "launch": code_of(lambda: kernel(queue, (1,), None, buffer)),
        "buffer": code_of(lambda: cl.Buffer(context, cl.mem_flags.READ_WRITE, 4096)),
        "queue": code_of(lambda: cl.CommandQueue(context)),
        "context": code_of(lambda: cl.Context(context.devices)),
        "build": code_of(lambda: cl.Program(context, "__kernel void g() {}").build()),
        "user event": code_of(lambda: cl.UserEvent(context)),
        "open event": code_of(lambda: gate.set_status(0)),
    }
    print(json.dumps({"waiting": waiting, "later": later}), flush=True)


main()
