"""Builds with headers, 2-D index spaces, profiling, copies, fills, maps, sub-buffers, binaries, on random input."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")

SOURCE = """
#include "scale.h"
#include <nested/offset.h>
__kernel void combine(__global const float *a, __global const float *b, __global float *out, int width, float factor)
{
    int x = get_global_id(0), y = get_global_id(1);
    out[y * width + x] = SCALE(a[y * width + x], factor) + b[y * width + x] + OFFSET;
}
__kernel void local_sum(__global const int *in, __global int *out, __local int *scratch)
{
    int i = get_local_id(0), n = get_local_size(0);
    scratch[i] = in[get_global_id(0)];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = n / 2; step > 0; step /= 2) {
        if (i < step) scratch[i] += scratch[i + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (i == 0) out[get_group_id(0)] = scratch[0];
}
typedef struct { int a; float b; long c; } triple;
__kernel void by_value(__global float *out, triple t, float4 v, uchar small)
{
    out[get_global_id(0)] = t.a + t.b + t.c + v.x + v.y + v.z + v.w + small + get_global_id(0);
}
"""


def headers(directory: Path) -> None:
    (directory / "nested").mkdir(parents=True, exist_ok=True)
    (directory / "scale.h").write_text('#include "nested/inner.h"\n#define SCALE(x, f) (INNER(x) * (f))\n')
    (directory / "nested" / "inner.h").write_text("#define INNER(x) (x)\n")
    (directory / "nested" / "offset.h").write_text("#define OFFSET 0.5f\n")


def main() -> None:
    seed, directory = int(sys.argv[1]), Path(sys.argv[2])
    rng = np.random.default_rng(seed)
    headers(directory)
    device = cl.get_platforms()[0].get_devices()[0]
    context = cl.Context([device])
    queue = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
    program = cl.Program(context, SOURCE).build(options=["-I", str(directory)])
    flags = cl.mem_flags
    checks: dict[str, bool] = {}

    height, width = 96, 160
    a, b = (rng.random((height, width), dtype=np.float32) for _ in range(2))
    a_buffer, b_buffer = (cl.Buffer(context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=array) for array in (a, b))
    out_buffer = cl.Buffer(context, flags.WRITE_ONLY, a.nbytes)
    factor = np.float32(rng.random())
    event = program.combine(queue, (width, height), (16, 8), a_buffer, b_buffer, out_buffer, np.int32(width), factor)
    out = np.empty_like(a)
    cl.enqueue_copy(queue, out, out_buffer, wait_for=[event])
    checks["two dimensions"] = bool(np.allclose(out, a * factor + b + np.float32(0.5), rtol=1e-6))
    times = [event.profile.queued, event.profile.submit, event.profile.start, event.profile.end]
    checks["profiling"] = times == sorted(times) and times[0] > 0

    numbers = rng.integers(-1000, 1000, 4096, dtype=np.int32)
    groups, local = 32, 128
    in_buffer = cl.Buffer(context, flags.READ_WRITE, numbers.nbytes)
    cl.enqueue_copy(queue, in_buffer, numbers, is_blocking=False)
    sums_buffer = cl.Buffer(context, flags.READ_WRITE, groups * 4)
    program.local_sum(queue, (groups * local,), (local,), in_buffer, sums_buffer, cl.LocalMemory(local * 4))
    sums = np.empty(groups, np.int32)
    done = cl.enqueue_copy(queue, sums, sums_buffer, is_blocking=False)
    done.wait()
    checks["local memory"] = bool((sums == numbers.reshape(groups, local).sum(axis=1)).all())

    copy = cl.Buffer(context, flags.READ_WRITE, numbers.nbytes)
    cl.enqueue_fill_buffer(queue, copy, np.int32(-7), 0, numbers.nbytes)
    cl.enqueue_copy(queue, copy, in_buffer, src_offset=400, dst_offset=800, byte_count=1200)
    back = np.empty_like(numbers)
    cl.enqueue_copy(queue, back, copy)
    expected = np.full_like(numbers, -7)
    expected[200:500] = numbers[100:400]
    checks["copy and fill"] = bool((back == expected).all())

    mapped, map_event = cl.enqueue_map_buffer(
        queue, in_buffer, cl.map_flags.READ | cl.map_flags.WRITE, 1024, (256,), np.int32, is_blocking=False
    )
    map_event.wait()
    checks["map"] = bool((mapped == numbers[256:512]).all())
    mapped[:] = numbers[256:512] * 3
    mapped.base.release(queue)
    cl.enqueue_copy(queue, back, in_buffer)
    expected = numbers.copy()
    expected[256:512] *= 3
    checks["unmap"] = bool((back == expected).all())

    align = max(1, device.mem_base_addr_align // 8)
    part = in_buffer.get_sub_region(align * 2, 512)
    piece = np.empty(128, np.int32)
    cl.enqueue_copy(queue, piece, part)
    checks["sub-buffer read"] = bool((piece == expected[align // 2 : align // 2 + 128]).all())
    cl.enqueue_copy(queue, part, np.arange(128, dtype=np.int32))
    expected[align // 2 : align // 2 + 128] = np.arange(128)
    cl.enqueue_copy(queue, back, in_buffer)
    checks["sub-buffer write"] = bool((back == expected).all())

    own = rng.integers(0, 1 << 30, 1000, dtype=np.int32)
    user = cl.Buffer(context, flags.READ_WRITE | flags.USE_HOST_PTR, hostbuf=own)
    was = own.copy()
    cl.enqueue_fill_buffer(queue, user, np.int32(5), 0, 400)
    view, _ = cl.enqueue_map_buffer(queue, user, cl.map_flags.READ | cl.map_flags.WRITE, 0, (1000,), np.int32)
    checks["host memory"] = bool((view[:100] == 5).all() and (view[100:] == was[100:]).all())
    checks["host address"] = view.__array_interface__["data"][0] == own.__array_interface__["data"][0]
    view[500] = 99
    view.base.release(queue)
    got = np.empty_like(own)
    cl.enqueue_copy(queue, got, user)
    checks["host write"] = bool(got[500] == 99)

    image = rng.integers(0, 255, (20, 30), dtype=np.uint8)
    rect = cl.Buffer(context, flags.READ_WRITE, 20 * 32)
    cl.enqueue_fill_buffer(queue, rect, np.uint8(1), 0, 640)
    cl.enqueue_copy(
        queue,
        rect,
        image,
        buffer_origin=(2, 3),
        host_origin=(4, 5),
        region=(11, 7),
        buffer_pitches=(32,),
        host_pitches=(30,),
    )
    whole = np.empty((20, 32), np.uint8)
    cl.enqueue_copy(queue, whole, rect)
    wanted = np.ones((20, 32), np.uint8)
    wanted[3:10, 2:13] = image[5:12, 4:15]
    checks["rectangle write"] = bool((whole == wanted).all())
    window = np.zeros((20, 30), np.uint8)
    cl.enqueue_copy(
        queue,
        window,
        rect,
        buffer_origin=(2, 3),
        host_origin=(1, 2),
        region=(11, 7),
        buffer_pitches=(32,),
        host_pitches=(30,),
    )
    checks["rectangle read"] = bool(
        (window[2:9, 1:12] == image[5:12, 4:15]).all() and window.sum() == image[5:12, 4:15].sum()
    )

    triple = np.array([(3, 1.5, 1 << 33)], dtype=[("a", "i4"), ("b", "f4"), ("c", "i8")])
    vector = np.array([1, 2, 3, 4], np.float32)
    result = cl.Buffer(context, flags.WRITE_ONLY, 4 * 8)
    program.by_value(queue, (8,), None, result, triple, vector, np.uint8(200))
    floats = np.empty(8, np.float32)
    cl.enqueue_copy(queue, floats, result)
    checks["by value"] = bool(np.allclose(floats, 3 + 1.5 + float(1 << 33) + 10 + 200 + np.arange(8)))

    binary = program.get_info(cl.program_info.BINARIES)[0]
    again = cl.Program(context, [device], [binary]).build()
    kernel = again.combine
    kernel(queue, (width, height), None, a_buffer, b_buffer, out_buffer, np.int32(width), np.float32(2))
    cl.enqueue_copy(queue, out, out_buffer)
    checks["from binary"] = bool(np.allclose(out, a * 2 + b + np.float32(0.5), rtol=1e-6))

    print(json.dumps({"checks": checks, "kernels": sorted(program.kernel_names.split(";"))}))


main()
