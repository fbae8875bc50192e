"""Calls on images and samplers that are wrong in one way each: the error codes, by name of the case."""

import ctypes
import glob
import json
import os
import random
import sys
from collections.abc import Callable
from ctypes import POINTER, byref, c_int, c_size_t, c_uint, c_uint64, c_void_p, create_string_buffer
from importlib import import_module
from typing import Any

cl: Any = import_module("pyopencl")
PACKAGES = os.path.dirname(os.path.dirname(cl.__file__))
FOUND = [
    path for name in ("pyopencl.libs", "pyopencl/.libs") for path in glob.glob(f"{PACKAGES}/{name}/libOpenCL*.so*")
]
#: The ICD loader that pyopencl has opened.
CL = ctypes.CDLL(FOUND[0] if FOUND else "libOpenCL.so.1")
RESULTS: dict[str, Any] = {}
RANDOM = random.Random(int(sys.argv[1]))
V, U, S, L = c_void_p, c_uint, c_size_t, c_uint64


class Format(ctypes.Structure):
    _fields_ = (("order", c_uint), ("channels", c_uint))


class Description(ctypes.Structure):
    _fields_ = (
        ("kind", c_uint),
        ("width", c_size_t),
        ("height", c_size_t),
        ("depth", c_size_t),
        ("array_size", c_size_t),
        ("row_pitch", c_size_t),
        ("slice_pitch", c_size_t),
        ("mip_levels", c_uint),
        ("samples", c_uint),
        ("memory", c_void_p),
    )


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    found = getattr(CL, name)
    found.restype, found.argtypes = result, arguments
    return found  # type: ignore[no-any-return]


create_image = function("clCreateImage", V, V, L, V, V, V, POINTER(c_int))
create_sampler = function("clCreateSampler", V, V, U, U, U, POINTER(c_int))
read = function("clEnqueueReadImage", c_int, V, V, U, V, V, S, S, V, U, V, V)
copy = function("clEnqueueCopyImage", c_int, V, V, V, V, V, V, U, V, V)
fill = function("clEnqueueFillImage", c_int, V, V, V, V, V, U, V, V)
to_buffer = function("clEnqueueCopyImageToBuffer", c_int, V, V, V, V, V, S, U, V, V)
map_image = function("clEnqueueMapImage", V, V, V, U, L, V, V, V, V, U, V, V, POINTER(c_int))
image_info = function("clGetImageInfo", c_int, V, U, S, V, POINTER(S))
formats = function("clGetSupportedImageFormats", c_int, V, L, U, U, V, POINTER(U))
set_arg = function("clSetKernelArg", c_int, V, U, S, V)

RGBA8, PLANE = (0x10B5, 0x10DA), 0x10F1
CONTEXT = cl.create_some_context(interactive=False)
OTHER = cl.Context(CONTEXT.devices)
QUEUE = cl.CommandQueue(CONTEXT)
BUFFER = cl.Buffer(CONTEXT, cl.mem_flags.READ_WRITE, 4096)


def triple(*numbers: int) -> Any:
    return (c_size_t * 3)(*numbers)


def made(name: str, context: Any, flags: int, form: Any, description: Any, host: Any = None) -> Any:
    code = c_int(77)
    pointers = [None if value is None else byref(value) for value in (form, description)]
    handle = create_image(context.int_ptr, flags, *pointers, host, byref(code))
    RESULTS[name] = code.value
    return handle


def creation() -> tuple[Any, Any]:
    host = create_string_buffer(4096)
    good = {"kind": PLANE, "width": 8, "height": 4}
    for name, flags, form, sizes, pointer in [
        ("no format", 1, None, good, None),
        ("no description", 1, RGBA8, None, None),
        ("unknown order", 1, (1, 0x10DA), good, None),
        ("unknown channels", 1, (0x10B5, 1), good, None),
        ("two accesses", 1 | 2, RGBA8, good, None),
        ("a buffer's kind", 1, RGBA8, {**good, "kind": 0x10F0}, None),
        ("too wide", 1, RGBA8, {**good, "width": 1 << 30}, None),
        ("a pitch without memory", 1, RGBA8, {**good, "row_pitch": 64}, None),
        ("a short pitch", 1 | 1 << 5, RGBA8, {**good, "row_pitch": 16}, host),
        ("memory that nobody asked for", 1, RGBA8, good, host),
        ("no memory to copy", 1 | 1 << 5, RGBA8, good, None),
    ]:
        described = None if sizes is None else Description(**sizes)
        made(f"image: {name}", CONTEXT, flags, None if form is None else Format(*form), described, pointer)
    image = made("image", CONTEXT, 1, Format(*RGBA8), Description(**good))
    foreign = made("image: other context", OTHER, 1, Format(*RGBA8), Description(**good))
    code = c_int(77)
    create_sampler(CONTEXT.int_ptr, 1, 0x1139, 0x1140, byref(code))
    RESULTS["sampler: unknown addressing"] = code.value
    create_sampler(CONTEXT.int_ptr, 1, 0x1131, 0x1149, byref(code))
    RESULTS["sampler: unknown filter"] = code.value
    return image, foreign


def commands(image: Any, foreign: Any) -> None:
    host = create_string_buffer(4096)
    queue, zero, whole = QUEUE.int_ptr, triple(0, 0, 0), triple(8, 4, 1)

    def reads(target: Any, origin: Any, region: Any, row: int, data: Any, slice_pitch: int = 0) -> int:
        return int(read(queue, target, 1, origin, region, row, slice_pitch, data, 0, None, None))

    RESULTS["read"] = reads(image, zero, whole, 0, host)
    RESULTS["read: null"] = reads(image, zero, whole, 0, None)
    RESULTS["read: short pitch"] = reads(image, zero, whole, 31, host)
    RESULTS["read: a buffer"] = reads(BUFFER.int_ptr, zero, whole, 0, host)
    RESULTS["read: other context"] = reads(foreign, zero, whole, 0, host)
    for number in range(12):
        # One coordinate leads outside, by little or by much.
        at, far = RANDOM.randrange(3), RANDOM.choice((1, 7, 1 << 20, 1 << 40))
        origin, region = [0, 0, 0], [8, 4, 1]
        (origin if RANDOM.random() < 0.5 else region)[at] += far
        RESULTS[f"read: outside {number}"] = reads(image, triple(*origin), triple(*region), 0, host)
        RESULTS[f"fill: outside {number}"] = fill(queue, image, host, triple(*origin), triple(*region), 0, None, None)
        RESULTS[f"to a buffer: outside {number}"] = to_buffer(
            queue, image, BUFFER.int_ptr, triple(*origin), triple(*region), 0, 0, None, None
        )
    RESULTS["to a buffer: behind it"] = to_buffer(queue, image, BUFFER.int_ptr, zero, whole, 4000, 0, None, None)
    RESULTS["copy: overlap"] = copy(queue, image, image, zero, triple(1, 0, 0), triple(4, 1, 1), 0, None, None)
    RESULTS["fill: no colour"] = fill(queue, image, None, zero, whole, 0, None, None)
    pitch, code = c_size_t(), c_int(77)
    map_image(queue, image, 1, 1, zero, triple(9, 1, 1), byref(pitch), None, 0, None, None, byref(code))
    RESULTS["map: outside"] = code.value
    map_image(queue, image, 1, 1, zero, whole, None, None, 0, None, None, byref(code))
    RESULTS["map: no pitch"] = code.value
    size, count = c_size_t(), c_uint()
    RESULTS["info: unknown"] = image_info(image, 0x11FF, 0, None, byref(size))
    RESULTS["info: of a buffer"] = image_info(BUFFER.int_ptr, 0x1110, 0, None, byref(size))
    RESULTS["formats: a buffer's"] = formats(CONTEXT.int_ptr, 1, 0x10F0, 0, None, byref(count))


def arguments(image: Any) -> None:
    source = (
        "kernel void k(read_only image2d_t i, sampler_t s, global int *b) { b[0] = read_imagei(i, s, (int2)(0)).x; }"
    )
    kernel = cl.Program(CONTEXT, source).build().k
    value, buffer = (V * 1)(image), (V * 1)(BUFFER.int_ptr)
    RESULTS["argument: image"] = set_arg(kernel.int_ptr, 0, 8, value)
    RESULTS["argument: image of 4 bytes"] = set_arg(kernel.int_ptr, 0, 4, value)
    RESULTS["argument: sampler of 4 bytes"] = set_arg(kernel.int_ptr, 1, 4, value)
    RESULTS["argument: buffer"] = set_arg(kernel.int_ptr, 2, 8, buffer)


IMAGES = creation()
commands(*IMAGES)
arguments(IMAGES[0])
print(json.dumps(RESULTS))
