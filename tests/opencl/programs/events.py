"""Wait lists, user events, callbacks, markers and barriers, out-of-order queues, several threads."""

import json
import threading
from importlib import import_module
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")

SOURCE = "__kernel void add(__global int *a, int n) { a[get_global_id(0)] += n; }"


def main() -> None:
    device = cl.get_platforms()[0].get_devices()[0]
    context = cl.Context([device])
    program = cl.Program(context, SOURCE).build()
    queue = cl.CommandQueue(context)
    count = 1024
    checks: dict[str, bool] = {}

    # A kernel that the program holds up; reads and writes around it must keep their order.
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, count * 4)
    ones = np.ones(count, np.int32)
    cl.enqueue_copy(queue, buffer, ones)
    gate = cl.UserEvent(context)
    held = program.add(queue, (count,), None, buffer, np.int32(1), wait_for=[gate])
    early, late = np.zeros(count, np.int32), np.full(count, 50, np.int32)
    read = cl.enqueue_copy(queue, early, buffer, is_blocking=False)
    write = cl.enqueue_copy(queue, buffer, late, is_blocking=False)
    final = np.zeros(count, np.int32)
    last = cl.enqueue_copy(queue, final, buffer, is_blocking=False)
    states = [event.command_execution_status for event in (held, read, write, last)]
    checks["held up"] = all(state != cl.command_execution_status.COMPLETE for state in states)
    gate.set_status(cl.command_execution_status.COMPLETE)
    last.wait()
    checks["order kept"] = bool((early == 2).all() and (final == 50).all())

    # Data that arrives without anybody waiting for its own event.
    program.add(queue, (count,), None, buffer, np.int32(5))
    first, second = np.zeros(count, np.int32), np.zeros(count, np.int32)
    cl.enqueue_copy(queue, first, buffer, is_blocking=False)
    program.add(queue, (count,), None, buffer, np.int32(5))
    cl.enqueue_copy(queue, second, buffer, is_blocking=False)
    queue.finish()
    checks["finish"] = bool((first == 55).all() and (second == 60).all())

    # A write from memory that an earlier read fills.
    program.add(queue, (count,), None, buffer, np.int32(1))
    relay = np.zeros(count, np.int32)
    other = cl.Buffer(context, cl.mem_flags.READ_WRITE, count * 4)
    cl.enqueue_copy(queue, relay, buffer, is_blocking=False)
    cl.enqueue_copy(queue, other, relay, is_blocking=False)
    cl.enqueue_copy(queue, first, other)
    checks["relay"] = bool((first == 61).all())

    called = threading.Event()
    status: list[int] = []
    event = program.add(queue, (count,), None, buffer, np.int32(1))

    def callback(value: int) -> None:
        status.append(value)
        called.set()

    event.set_callback(cl.command_execution_status.COMPLETE, callback)
    checks["callback"] = called.wait(20) and status == [cl.command_execution_status.COMPLETE]

    out_of_order = cl.command_queue_properties.OUT_OF_ORDER_EXEC_MODE_ENABLE
    if device.queue_properties & out_of_order:
        free = cl.CommandQueue(context, properties=out_of_order)
        cl.enqueue_copy(free, buffer, np.zeros(count, np.int32))
        steps = [program.add(free, (count,), None, buffer, np.int32(1))]
        for _ in range(10):
            steps.append(program.add(free, (count,), None, buffer, np.int32(1), wait_for=[steps[-1]]))
        cl.enqueue_barrier(free, wait_for=[steps[-1]])
        cl.enqueue_copy(free, first, buffer)
        checks["out of order"] = bool((first == 11).all())
        marker = cl.enqueue_marker(free)
        marker.wait()

    failures: list[str] = []

    def work(number: int) -> None:
        try:
            own_queue = cl.CommandQueue(context)
            own = cl.Program(context, SOURCE).build()
            values = np.arange(count, dtype=np.int32) * number
            memory = cl.Buffer(context, cl.mem_flags.READ_WRITE, count * 4)
            kernel = cl.Kernel(own, "add")
            for turn in range(20):
                cl.enqueue_copy(own_queue, memory, values, is_blocking=turn % 2 == 0)
                kernel(own_queue, (count,), None, memory, np.int32(turn))
                result = np.empty(count, np.int32)
                cl.enqueue_copy(own_queue, result, memory, is_blocking=turn % 3 != 0)
                own_queue.finish()
                if not (result == values + turn).all():
                    failures.append(f"thread {number}, turn {turn}")
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    checks["threads"] = not failures
    print(json.dumps({"checks": checks, "failures": failures}))


main()
