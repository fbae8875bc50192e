"""A picture of a region of the Mandelbrot set, computed on the accelerator, as a PNG.

kasoku deploy examples/mandelbrot.py
kasoku invoke mandelbrot '{"x": -0.7436, "y": 0.1318, "span": 0.01}'
"""

import base64
import functools
import struct
import zlib

import numpy as np
import pyopencl as cl

import kasoku

app = kasoku.App("examples")

SOURCE = """
#pragma OPENCL FP_CONTRACT OFF
__kernel void iterate(__global int *counts, const double left, const double top, const double step, const int limit) {
    const int column = get_global_id(0), row = get_global_id(1);
    const double cx = left + column * step, cy = top - row * step;
    double x = 0.0, y = 0.0;
    int count = 0;
    while (count < limit && x * x + y * y <= 4.0) {
        const double next = x * x - y * y + cx;
        y = 2.0 * x * y + cy;
        x = next;
        count++;
    }
    counts[row * get_global_size(0) + column] = count;
}
"""
MOST_PIXELS = 1 << 22


class Session:
    """What a warm instance keeps: context, queue and program."""

    def __init__(self):
        with kasoku.phase("context"):
            self.context = cl.create_some_context(interactive=False)
            self.queue = cl.CommandQueue(self.context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        with kasoku.phase("program build"):
            self.iterate = cl.Kernel(cl.Program(self.context, SOURCE).build(), "iterate")


@functools.cache
def warm():
    """The session of this instance, made by the first request."""
    return Session()


@app.function(name="mandelbrot", requirements=["numpy", "pyopencl"], accelerator="opencl", memory=1024, timeout=120)
def mandelbrot(x, y, span, width=640, height=480, limit=400):
    """The region around (x, y) that is `span` wide. Returns the picture, and sums by which it can be checked."""
    if not (0 < width * height <= MOST_PIXELS and 0 < limit <= 100_000 and span > 0):
        raise ValueError(f"need 1 to {MOST_PIXELS} pixels, a limit of 1 to 100000, and a span above 0")
    session = warm()
    step = span / width
    counts = np.empty((height, width), np.int32)
    buffer = cl.Buffer(session.context, cl.mem_flags.WRITE_ONLY, counts.nbytes)
    left, top = x - step * (width - 1) / 2, y + step * (height - 1) / 2
    numbers = np.float64(left), np.float64(top), np.float64(step), np.int32(limit)
    done = session.iterate(session.queue, (width, height), None, buffer, *numbers)
    done.wait()
    kasoku.record_phase("kernel", (done.profile.end - done.profile.start) / 1e6)
    with kasoku.phase("read back"):
        cl.enqueue_copy(session.queue, counts, buffer)
    buffer.release()
    with kasoku.phase("png"):
        picture = png(colours(counts, limit))
    return {
        "png": base64.b64encode(picture).decode(),
        "row_sums": counts.sum(axis=1, dtype=np.int64).tolist(),
        "inside": int((counts == limit).sum()),
        "device": session.context.devices[0].name.strip(),
        "platform": session.context.devices[0].platform.name.strip(),
    }


def colours(counts, limit):
    """Red, green and blue for each count; black inside the set."""
    t = np.sqrt(counts / limit)[..., None]
    waves = 0.5 - 0.5 * np.cos(2 * np.pi * (3 * t + np.array([0.0, 0.1, 0.2])))
    return np.where(counts[..., None] == limit, 0, 255 * waves).astype(np.uint8)


def png(pixels):
    """A PNG file of height x width x 3 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 3)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks
