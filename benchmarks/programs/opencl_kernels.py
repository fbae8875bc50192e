"""An ordinary pyopencl program that measures what it is asked to: one JSON object a line in, one a line out.

It runs unmodified on both sides. Its data come from seeds, so that both sides compute the same.
"""

import hashlib
import json
import sys
import time

import numpy as np
import pyopencl as cl

SOURCE = """
__kernel void vadd(__global const float *a, __global const float *b, __global float *c, int n, int repeat) {
    int i = get_global_id(0);
    float v = a[i];
    for (int r = 0; r < repeat; r++)
        v = v * 0.9999f + b[i];
    c[i] = v;
}

__kernel void matmul(__global const float *a, __global const float *b, __global float *c, int n, int repeat) {
    int x = get_global_id(0), y = get_global_id(1);
    float v = 0;
    for (int r = 0; r < repeat; r++) {
        float sum = v * 0.001f;
        for (int k = 0; k < n; k++)
            sum += a[y * n + k] * b[k * n + x];
        v = sum;
    }
    c[y * n + x] = v;
}

__kernel void stencil(__global const float *a, __global const float *b, __global float *c, int n, int repeat) {
    int x = get_global_id(0), y = get_global_id(1);
    int left = y * n + max(x - 1, 0), right = y * n + min(x + 1, n - 1);
    int up = max(y - 1, 0) * n + x, down = min(y + 1, n - 1) * n + x;
    float v = a[y * n + x];
    for (int r = 0; r < repeat; r++)
        v = 0.2f * (v + a[left] + a[right] + a[up] + a[down]) + b[y * n + x] * 0.001f;
    c[y * n + x] = v;
}

__kernel void reduction(__global const float *a, __global const float *b, __global float *c, int n, int repeat) {
    __local float part[64];
    int i = get_global_id(0), l = get_local_id(0);
    float v = 0;
    for (int r = 0; r < repeat; r++)
        v = v * 0.5f + a[i] * b[i];
    part[l] = v;
    for (int s = 32; s > 0; s >>= 1) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (l < s)
            part[l] += part[l + s];
    }
    if (l == 0)
        c[get_group_id(0)] = part[0];
}

__kernel void empty(__global float *a) {
    if (get_global_id(0) == 0)
        a[0] += 1.0f;
}
"""
PLANE = ("matmul", "stencil")


class Program:
    def __init__(self):
        self.device = cl.get_platforms()[0].get_devices()[0]
        self.context = cl.Context([self.device])
        self.queue = cl.CommandQueue(self.context)
        self.program = cl.Program(self.context, SOURCE).build()
        flags = cl.mem_flags
        self.small = cl.Buffer(self.context, flags.READ_WRITE, 4096)
        self.large = cl.Buffer(self.context, flags.READ_WRITE, 1 << 20)
        self.word, self.megabyte = np.zeros(1, np.float32), np.zeros(1 << 18, np.float32)
        self.empty = cl.Kernel(self.program, "empty")
        self.empty.set_arg(0, self.small)

    def describe(self):
        platform = self.device.platform
        return {"platform": platform.name, "device": self.device.name, "version": self.device.driver_version}

    def prepare(self, workload, n, repeat):
        """Makes data and buffers for `run`."""
        cells = n * n if workload in PLANE else n
        random = np.random.default_rng(cells)
        self.a, self.b = (random.random(cells, np.float32) for _ in range(2))
        self.c = np.zeros(cells // 64 if workload == "reduction" else cells, np.float32)
        flags = cl.mem_flags
        self.buffers = [cl.Buffer(self.context, flags.READ_ONLY, self.a.nbytes) for _ in range(2)]
        self.buffers.append(cl.Buffer(self.context, flags.WRITE_ONLY, self.c.nbytes))
        self.kernel = cl.Kernel(self.program, workload)
        self.kernel.set_args(*self.buffers, np.int32(n), np.int32(repeat))
        self.range = (n, n) if workload in PLANE else (n,)
        self.group = (64,) if workload == "reduction" else None
        return {}

    def run(self):
        """Data in, kernel, data out."""
        queue, (a, b, c) = self.queue, self.buffers
        begin = time.perf_counter_ns()
        cl.enqueue_copy(queue, a, self.a, is_blocking=False)
        cl.enqueue_copy(queue, b, self.b, is_blocking=False)
        cl.enqueue_nd_range_kernel(queue, self.kernel, self.range, self.group)
        cl.enqueue_copy(queue, self.c, c, is_blocking=True)
        ns = time.perf_counter_ns() - begin
        return {"ns": ns, "digest": hashlib.sha256(self.c).hexdigest()}

    def kernel_alone(self):
        """What `prepare` prepared, without data."""
        begin = time.perf_counter_ns()
        cl.enqueue_nd_range_kernel(self.queue, self.kernel, self.range, self.group)
        self.queue.finish()
        return {"ns": time.perf_counter_ns() - begin}

    def call(self, name, count):
        """The mean time of one call, in nanoseconds."""
        function = getattr(self, f"call_{name}")
        self.queue.finish()
        begin = time.perf_counter_ns()
        for _ in range(count):
            function()
        self.queue.finish()
        return {"ns": (time.perf_counter_ns() - begin) / count}

    def call_get_device_info(self):
        self.device.get_info(cl.device_info.MAX_WORK_GROUP_SIZE)

    def call_create_release_buffer(self):
        cl.Buffer(self.context, cl.mem_flags.READ_WRITE, 4096).release()

    def call_set_kernel_arg(self):
        self.empty.set_arg(0, self.small)

    def call_enqueue_kernel(self):
        cl.enqueue_nd_range_kernel(self.queue, self.empty, (1,), None)

    def call_enqueue_kernel_finish(self):
        cl.enqueue_nd_range_kernel(self.queue, self.empty, (1,), None)
        self.queue.finish()

    def call_finish(self):
        self.queue.finish()

    def call_write_4_bytes(self):
        cl.enqueue_copy(self.queue, self.small, self.word)

    def call_read_4_bytes(self):
        cl.enqueue_copy(self.queue, self.word, self.small)

    def call_write_1_mib(self):
        cl.enqueue_copy(self.queue, self.large, self.megabyte)

    def call_read_1_mib(self):
        cl.enqueue_copy(self.queue, self.megabyte, self.large)

    def call_copy_1_mib(self):
        cl.enqueue_copy(self.queue, self.large, self.large, byte_count=1 << 19, dst_offset=1 << 19)
        self.queue.finish()

    def call_map_unmap_4_kib(self):
        flags = cl.map_flags.READ | cl.map_flags.WRITE
        mapped, _ = cl.enqueue_map_buffer(self.queue, self.small, flags, 0, (1024,), np.float32)
        mapped.base.release(self.queue)


program = Program()
calls = sorted(name.removeprefix("call_") for name in dir(Program) if name.startswith("call_"))
for line in sys.stdin:
    request = json.loads(line)
    operation = request.pop("op")
    answer = {"calls": calls} if operation == "calls" else getattr(program, operation)(**request)
    print(json.dumps(answer), flush=True)
