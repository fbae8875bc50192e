"""An ordinary pyopencl program whose calls a guest cannot answer by itself: one JSON object a line in, one out."""

import json
import sys
import time

import numpy as np
import pyopencl as cl

SOURCE = "__kernel void k(__global int *a, int n) { a[get_global_id(0)] = n; }"


class Program:
    def __init__(self):
        self.context = cl.Context([cl.get_platforms()[0].get_devices()[0]])
        self.kernel = cl.Kernel(cl.Program(self.context, SOURCE).build(), "k")
        self.buffer = cl.Buffer(self.context, cl.mem_flags.READ_WRITE, 4096)
        self.values = (np.int32(1), np.int32(2))
        # Nobody completes it: its state must be asked for each time.
        self.event = cl.UserEvent(self.context)

    def ask(self):
        """One question and its answer."""
        return self.event.get_info(cl.event_info.COMMAND_EXECUTION_STATUS)

    def round_trip(self, count):
        """Nanoseconds of a question, on average of many without a pause."""
        begin = time.perf_counter_ns()
        for _ in range(count):
            self.ask()
        return {"ns": (time.perf_counter_ns() - begin) / count}

    def posted(self, count):
        """Nanoseconds of a call that needs no answer; at the end all have been carried out."""
        self.ask()
        begin = time.perf_counter_ns()
        for number in range(count):
            self.kernel.set_arg(1, self.values[number & 1])
        self.ask()
        return {"ns": (time.perf_counter_ns() - begin) / count}

    def wake(self, idle_ms):
        """Nanoseconds of the first question after a pause."""
        time.sleep(idle_ms / 1000)
        begin = time.perf_counter_ns()
        self.ask()
        return {"ns": time.perf_counter_ns() - begin}


program = Program()
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(getattr(program, request.pop("op"))(**request)), flush=True)
