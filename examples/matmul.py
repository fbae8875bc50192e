"""A matrix product on the accelerator: the size and the seed of the matrices come with the request.

kasoku deploy examples/matmul.py
kasoku invoke matmul '{"size": 512, "seed": 7}'
"""

import functools
import hashlib

import numpy as np
import pyopencl as cl

import kasoku

app = kasoku.App("examples")

SOURCE = """
#define TILE 16
__kernel __attribute__((reqd_work_group_size(TILE, TILE, 1)))
void multiply(__global const float *a, __global const float *b, __global float *c, const int n) {
    __local float left[TILE][TILE], right[TILE][TILE];
    const int x = get_local_id(0), y = get_local_id(1);
    const int column = get_global_id(0), row = get_global_id(1);
    float sum = 0.0f;
    for (int start = 0; start < n; start += TILE) {
        left[y][x] = row < n && start + x < n ? a[row * n + start + x] : 0.0f;
        right[y][x] = start + y < n && column < n ? b[(start + y) * n + column] : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < TILE; k++) sum += left[y][k] * right[k][x];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (row < n && column < n) c[row * n + column] = sum;
}
"""
TILE = 16
LARGEST = 4096


class Session:
    """What a warm instance keeps: context, queue and program."""

    def __init__(self):
        with kasoku.phase("context"):
            self.context = cl.create_some_context(interactive=False)
            self.queue = cl.CommandQueue(self.context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        with kasoku.phase("program build"):
            self.multiply = cl.Kernel(cl.Program(self.context, SOURCE).build(), "multiply")


@functools.cache
def warm():
    """The session of this instance, made by the first request."""
    return Session()


@app.function(name="matmul", requirements=["numpy", "pyopencl"], accelerator="opencl", memory=1024, timeout=120)
def matmul(size, seed):
    """The product of two random matrices of small whole numbers, which 32-bit floats hold exactly in any order of
    summation: whoever knows size and seed can compute the same digest."""
    if not isinstance(size, int) or not 1 <= size <= LARGEST:
        raise ValueError(f"size must be a whole number from 1 to {LARGEST}, not {size!r}")
    session = warm()
    random = np.random.default_rng(seed)
    a = random.integers(-8, 8, (size, size)).astype(np.float32)
    b = random.integers(-8, 8, (size, size)).astype(np.float32)
    c = np.empty_like(a)

    flags = cl.mem_flags
    with kasoku.phase("buffers"):
        left = cl.Buffer(session.context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=a)
        right = cl.Buffer(session.context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=b)
        product = cl.Buffer(session.context, flags.WRITE_ONLY, c.nbytes)
    edge = -(-size // TILE) * TILE
    done = session.multiply(session.queue, (edge, edge), (TILE, TILE), left, right, product, np.int32(size))
    done.wait()
    kasoku.record_phase("kernel", (done.profile.end - done.profile.start) / 1e6)
    with kasoku.phase("read back"):
        cl.enqueue_copy(session.queue, c, product)
    for buffer in (left, right, product):
        buffer.release()
    return {
        "size": size,
        "seed": seed,
        "sha256": hashlib.sha256(c.tobytes()).hexdigest(),
        "trace": float(np.trace(c)),
        "corner": c[:2, :2].tolist(),
        "device": session.context.devices[0].name.strip(),
        "platform": session.context.devices[0].platform.name.strip(),
    }
