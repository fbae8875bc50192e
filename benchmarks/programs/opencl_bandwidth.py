"""An ordinary pyopencl program that moves data: one JSON object a line in, one a line out."""

import json
import sys
import time

import numpy as np
import pyopencl as cl

FLAGS = cl.map_flags.READ | cl.map_flags.WRITE


class Program:
    def __init__(self):
        self.context = cl.Context([cl.get_platforms()[0].get_devices()[0]])
        self.queue = cl.CommandQueue(self.context)

    def prepare(self, size):
        """Buffers and arrays of `size` bytes, all of them touched."""
        self.size = size
        self.array = self.source = self.target = None
        self.array = np.ones(size, np.uint8)
        self.source = cl.Buffer(self.context, cl.mem_flags.READ_WRITE, size)
        self.target = cl.Buffer(self.context, cl.mem_flags.READ_WRITE, size)
        for name in ("write", "read", "map", "copy"):
            getattr(self, name)()
        return {}

    def run(self, what, count):
        """Nanoseconds of one of the calls below, on average."""
        call = getattr(self, what)
        begin = time.perf_counter_ns()
        for _ in range(count):
            call()
        return {"ns": (time.perf_counter_ns() - begin) / count}

    def write(self):
        cl.enqueue_copy(self.queue, self.source, self.array)

    def read(self):
        cl.enqueue_copy(self.queue, self.array, self.source)

    def map(self):
        mapped, _ = cl.enqueue_map_buffer(self.queue, self.source, FLAGS, 0, (self.size,), np.uint8)
        mapped.fill(7)
        mapped.base.release(self.queue)
        self.queue.finish()

    def copy(self):
        cl.enqueue_copy(self.queue, self.target, self.source, byte_count=self.size)
        self.queue.finish()


program = Program()
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(getattr(program, request.pop("op"))(**request)), flush=True)
