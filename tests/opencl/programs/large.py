"""Buffers and transfers larger than the session's memory, of every shape that is cut into parts."""

import json
import sys
from importlib import import_module
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")


def main() -> None:
    seed, mib = int(sys.argv[1]), int(sys.argv[2])
    rng = np.random.default_rng(seed)
    context = cl.Context([cl.get_platforms()[0].get_devices()[0]])
    queue = cl.CommandQueue(context)
    program = cl.Program(context, "__kernel void twice(__global uint *a) { a[get_global_id(0)] *= 2; }").build()
    checks: dict[str, bool] = {}
    data = rng.integers(0, 1 << 31, (mib << 20) // 4, dtype=np.uint32)
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=data)
    program.twice(queue, (data.size,), None, buffer)
    back = np.empty_like(data)
    cl.enqueue_copy(queue, back, buffer)
    checks["created from memory"] = bool((back == data * 2).all())
    cl.enqueue_copy(queue, buffer, data, is_blocking=False)
    event = cl.enqueue_copy(queue, back, buffer, is_blocking=False)
    event.wait()
    checks["not blocking"] = bool((back == data).all())
    rows = data.reshape(-1, 2048)
    window = np.zeros((rows.shape[0], 1000), np.uint32)
    cl.enqueue_copy(
        queue,
        window,
        buffer,
        buffer_origin=(400, 0),
        host_origin=(0, 0),
        region=(4000, rows.shape[0]),
        buffer_pitches=(8192,),
        host_pitches=(4000,),
    )
    checks["rectangle"] = bool((window == rows[:, 100:1100]).all())
    view, _ = cl.enqueue_map_buffer(queue, buffer, cl.map_flags.READ | cl.map_flags.WRITE, 4096, (1024,), np.uint32)
    checks["map"] = bool((view == data[1024:2048]).all())
    view[:] = 7
    view.base.release(queue)
    cl.enqueue_copy(queue, back, buffer)
    checks["unmap"] = bool((back[1024:2048] == 7).all() and (back[2048:] == data[2048:]).all())
    # Many small writes in flight take the arena's room in turns.
    small = [rng.integers(0, 1 << 31, 1 << 18, dtype=np.uint32) for _ in range(8)]
    targets = [cl.Buffer(context, cl.mem_flags.READ_WRITE, 1 << 20) for _ in small]
    for _ in range(8):
        for target, values in zip(targets, small, strict=True):
            program.twice(queue, (1 << 18,), None, target)
            cl.enqueue_copy(queue, target, values, is_blocking=False)
    results = [np.empty(1 << 18, np.uint32) for _ in small]
    for target, result in zip(targets, results, strict=True):
        cl.enqueue_copy(queue, result, target, is_blocking=False)
    queue.finish()
    checks["many in flight"] = all(bool((a == b).all()) for a, b in zip(small, results, strict=True))
    print(json.dumps({"checks": checks}))


main()
