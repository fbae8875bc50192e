"""Calls that are wrong in one way each: the error codes, by name of the case. Through the loader, as programs call."""

import ctypes
import glob
import json
import os
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p, create_string_buffer, sizeof
from importlib import import_module
from typing import Any

cl: Any = import_module("pyopencl")


def loader() -> ctypes.CDLL:
    """The ICD loader that pyopencl has opened."""
    packages = os.path.dirname(os.path.dirname(cl.__file__))
    places = [f"{packages}/pyopencl.libs/libOpenCL*.so*", f"{packages}/pyopencl/.libs/libOpenCL*.so*"]
    found = [path for place in places for path in glob.glob(place)]
    return ctypes.CDLL(found[0] if found else "libOpenCL.so.1")


CL = loader()
SOURCE = b"""
typedef struct { int a, b; } pair;
__kernel void f(__global int *a, __local int *l, int n, float4 v, pair p, __constant int *c)
{ a[0] = n + v.x + p.a + c[0] + l[0]; }
__kernel __attribute__((reqd_work_group_size(4, 1, 1))) void g(__global int *a) { a[get_global_id(0)] = 1; }
"""
RESULTS: dict[str, Any] = {}


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    found = getattr(CL, name)
    found.restype, found.argtypes = result, arguments
    return found  # type: ignore[no-any-return]


def created(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """A creating call whose last argument takes the code."""
    code = c_int(77)
    handle = call(*arguments, byref(code))
    RESULTS[name] = code.value
    return handle


V, U, S, L = c_void_p, c_uint, c_size_t, c_uint64
get_platforms = function("clGetPlatformIDs", c_int, U, POINTER(V), POINTER(U))
get_devices = function("clGetDeviceIDs", c_int, V, L, U, POINTER(V), POINTER(U))
device_info = function("clGetDeviceInfo", c_int, V, U, S, V, POINTER(S))
create_context = function("clCreateContext", V, V, U, POINTER(V), V, V, POINTER(c_int))
create_queue = function("clCreateCommandQueue", V, V, V, L, POINTER(c_int))
create_buffer = function("clCreateBuffer", V, V, L, S, V, POINTER(c_int))
create_sub = function("clCreateSubBuffer", V, V, L, U, V, POINTER(c_int))
create_program = function("clCreateProgramWithSource", V, V, U, POINTER(c_char_p), V, POINTER(c_int))
create_binary = function("clCreateProgramWithBinary", V, V, U, POINTER(V), POINTER(S), POINTER(V), V, POINTER(c_int))
build = function("clBuildProgram", c_int, V, U, V, c_char_p, V, V)
build_info = function("clGetProgramBuildInfo", c_int, V, V, U, S, V, POINTER(S))
program_info = function("clGetProgramInfo", c_int, V, U, S, V, POINTER(S))
create_kernel = function("clCreateKernel", V, V, c_char_p, POINTER(c_int))
create_kernels = function("clCreateKernelsInProgram", c_int, V, U, V, POINTER(U))
set_arg = function("clSetKernelArg", c_int, V, U, S, V)
kernel_info = function("clGetKernelInfo", c_int, V, U, S, V, POINTER(S))
group_info = function("clGetKernelWorkGroupInfo", c_int, V, V, U, S, V, POINTER(S))
launch = function("clEnqueueNDRangeKernel", c_int, V, V, U, V, V, V, U, V, V)
read = function("clEnqueueReadBuffer", c_int, V, V, U, S, S, V, U, V, V)
write = function("clEnqueueWriteBuffer", c_int, V, V, U, S, S, V, U, V, V)
copy = function("clEnqueueCopyBuffer", c_int, V, V, V, S, S, S, U, V, V)
fill = function("clEnqueueFillBuffer", c_int, V, V, V, S, S, S, U, V, V)
map_buffer = function("clEnqueueMapBuffer", V, V, V, U, L, S, S, U, V, V, POINTER(c_int))
unmap = function("clEnqueueUnmapMemObject", c_int, V, V, V, U, V, V)
wait = function("clWaitForEvents", c_int, U, V)
user_event = function("clCreateUserEvent", V, V, POINTER(c_int))
set_user = function("clSetUserEventStatus", c_int, V, c_int)
profile = function("clGetEventProfilingInfo", c_int, V, U, S, V, POINTER(S))
finish = function("clFinish", c_int, V)
release_event = function("clReleaseEvent", c_int, V)
release_mem = function("clReleaseMemObject", c_int, V)


def sizes(*numbers: int) -> Any:
    return (c_size_t * len(numbers))(*numbers)


def handles(*raws: int) -> Any:
    return (c_void_p * len(raws))(*raws)


def devices_and_contexts() -> tuple[int, int, int, int]:
    platforms = handles(0)
    get_platforms(1, platforms, None)
    RESULTS["platforms: nothing asked"] = get_platforms(0, None, None)
    devices = handles(0)
    get_devices(platforms[0], 0xFFFFFFFF, 1, devices, None)
    RESULTS["devices: no type"] = get_devices(platforms[0], 0, 1, devices, None)
    RESULTS["devices: count 0"] = get_devices(platforms[0], 0xFFFFFFFF, 0, devices, None)
    RESULTS["devices: custom"] = get_devices(platforms[0], 1 << 4, 1, devices, None)
    size = c_size_t()
    RESULTS["device info: unknown"] = device_info(devices[0], 0x1FFF, 0, None, byref(size))
    small = create_string_buffer(1)
    RESULTS["device info: short"] = device_info(devices[0], 0x102B, 1, small, None)
    created("context: no devices", create_context, None, 0, None, None, None)
    created("context: unknown property", create_context, (c_uint64 * 3)(0x9999, 1, 0), 1, devices, None, None)
    context = created("context", create_context, None, 1, devices, None, None)
    other = created("context: other", create_context, None, 1, devices, None, None)
    created("queue: unknown property", create_queue, context, devices[0], 1 << 40)
    queue = created("queue", create_queue, context, devices[0], 0)
    return devices[0], context, other, queue


def buffers(context: int, other: int, queue: int) -> tuple[int, int]:
    host = create_string_buffer(4096)
    created("buffer: size 0", create_buffer, context, 1, 0, None)
    created("buffer: huge", create_buffer, context, 1, 1 << 60, None)
    created("buffer: two accesses", create_buffer, context, 1 | 2, 64, None)
    created("buffer: unknown flag", create_buffer, context, 1 << 40, 64, None)
    created("buffer: host pointer without use", create_buffer, context, 1, 64, host)
    created("buffer: use without host pointer", create_buffer, context, 1 << 3, 64, None)
    created("buffer: use and copy", create_buffer, context, 1 << 3 | 1 << 5, 64, host)
    buffer = created("buffer", create_buffer, context, 1, 4096, None)
    foreign = created("buffer: other context", create_buffer, other, 1, 4096, None)
    unreadable = created("buffer: host writes only", create_buffer, context, 1 | 1 << 7, 4096, None)
    sub = created("sub-buffer", create_sub, buffer, 0, 0x1220, sizes(0, 256))
    created("sub-buffer: size 0", create_sub, buffer, 0, 0x1220, sizes(0, 0))
    created("sub-buffer: outside", create_sub, buffer, 0, 0x1220, sizes(4096, 1))
    created("sub-buffer: of a sub-buffer", create_sub, sub, 0, 0x1220, sizes(0, 64))
    created("sub-buffer: unknown type", create_sub, buffer, 0, 0x1221, sizes(0, 64))
    created("sub-buffer: misaligned", create_sub, buffer, 0, 0x1220, sizes(1, 64))
    created("sub-buffer: host pointer flag", create_sub, buffer, 1 << 5, 0x1220, sizes(0, 64))
    RESULTS["read: outside"] = read(queue, buffer, 1, 4000, 97, host, 0, None, None)
    RESULTS["read: null"] = read(queue, buffer, 1, 0, 4, None, 0, None, None)
    RESULTS["read: other context"] = read(queue, foreign, 1, 0, 4, host, 0, None, None)
    RESULTS["read: not allowed"] = read(queue, unreadable, 1, 0, 4, host, 0, None, None)
    RESULTS["read: waits without list"] = read(queue, buffer, 1, 0, 4, host, 1, None, None)
    RESULTS["read: list without waits"] = read(queue, buffer, 1, 0, 4, host, 0, handles(buffer), None)
    RESULTS["write: no queue"] = write(None, buffer, 1, 0, 4, host, 0, None, None)
    RESULTS["write: no buffer"] = write(queue, None, 1, 0, 4, host, 0, None, None)
    RESULTS["copy: overlap"] = copy(queue, buffer, buffer, 0, 10, 20, 0, None, None)
    RESULTS["copy: outside"] = copy(queue, buffer, sub, 0, 0, 257, 0, None, None)
    pattern = create_string_buffer(b"abcdefgh")
    RESULTS["fill: pattern of 3"] = fill(queue, buffer, pattern, 3, 0, 12, 0, None, None)
    RESULTS["fill: unaligned"] = fill(queue, buffer, pattern, 4, 2, 8, 0, None, None)
    RESULTS["fill: no pattern"] = fill(queue, buffer, None, 4, 0, 8, 0, None, None)
    RESULTS["fill: outside"] = fill(queue, buffer, pattern, 4, 4096, 4, 0, None, None)
    created("map: outside", map_buffer, queue, buffer, 1, 1, 4000, 97, 0, None, None)
    created("map: unknown flag", map_buffer, queue, buffer, 1, 1 << 8, 0, 4, 0, None, None)
    created("map: not allowed", map_buffer, queue, unreadable, 1, 1, 0, 4, 0, None, None)
    address = created("map", map_buffer, queue, buffer, 1, 1, 0, 4096, 0, None, None)
    RESULTS["unmap: other address"] = unmap(queue, buffer, address + 1, 0, None, None)
    RESULTS["unmap"] = unmap(queue, buffer, address, 0, None, None)
    RESULTS["unmap: twice"] = unmap(queue, buffer, address, 0, None, None)
    finish(queue)
    release_mem(unreadable)
    return buffer, foreign


def programs(device: int, context: int) -> tuple[int, int]:
    size = c_size_t()
    created("program: no text", create_program, context, 0, None, None)
    created("program: null text", create_program, context, 1, (c_char_p * 1)(None), None)
    broken = created("program: broken", create_program, context, 1, (c_char_p * 1)(b"__kernel void f( {"), None)
    created("kernel: before build", create_kernel, broken, b"f")
    RESULTS["build: broken"] = build(broken, 0, None, b"", None, None)
    status = c_int()
    build_info(broken, device, 0x1181, 4, byref(status), None)
    RESULTS["build status: broken"] = status.value
    build_info(broken, device, 0x1183, 0, None, byref(size))
    RESULTS["build log: broken"] = size.value > 1
    created("kernel: broken", create_kernel, broken, b"f")
    nonsense = create_string_buffer(b"this is not a binary")
    created(
        "binary: nonsense",
        create_binary,
        context,
        1,
        handles(device),
        sizes(20),
        handles(ctypes.addressof(nonsense)),
        None,
    )
    program = created("program", create_program, context, 1, (c_char_p * 1)(SOURCE), None)
    RESULTS["program info: kernels before build"] = program_info(program, 0x1167, 8, byref(size), None)
    optioned = created("program: to build with options", create_program, context, 1, (c_char_p * 1)(SOURCE), None)
    RESULTS["build: unknown option"] = build(optioned, 0, None, b"-no-such-option-xyz", None, None) != 0
    RESULTS["build: devices without count"] = build(program, 0, handles(device), b"", None, None)
    RESULTS["build"] = build(program, 0, None, b"-cl-kernel-arg-info", None, None)
    created("kernel: unknown", create_kernel, program, b"nothing")
    created("kernel: no name", create_kernel, program, None)
    f = created("kernel f", create_kernel, program, b"f")
    g = created("kernel g", create_kernel, program, b"g")
    RESULTS["build: with kernels"] = build(program, 0, None, b"", None, None)
    RESULTS["kernels: too little room"] = create_kernels(program, 1, handles(0), None)
    RESULTS["kernel info: unknown"] = kernel_info(f, 0x11AA, 0, None, byref(size))
    RESULTS["group info: unknown"] = group_info(f, device, 0x11CF, 0, None, byref(size))
    return f, g


def launches(queue: int, f: int, g: int, buffer: int, foreign: int) -> None:
    value = create_string_buffer(64)
    handle = handles(buffer)
    RESULTS["launch: no arguments"] = launch(queue, f, 1, None, sizes(4), None, 0, None, None)
    RESULTS["argument: index"] = set_arg(f, 6, 4, value)
    RESULTS["argument: buffer of 4 bytes"] = set_arg(f, 0, 4, handle)
    RESULTS["argument: local with value"] = set_arg(f, 1, 4, value)
    RESULTS["argument: local of 0"] = set_arg(f, 1, 0, None)
    RESULTS["argument: int of 8"] = set_arg(f, 2, 8, value)
    RESULTS["argument: int null"] = set_arg(f, 2, 4, None)
    RESULTS["argument: float4 of 12"] = set_arg(f, 3, 12, value)
    RESULTS["argument: structure of 4"] = set_arg(f, 4, 4, value)
    RESULTS["argument: null buffer"] = set_arg(f, 0, 8, None)
    for index, size, pointer in (
        (0, 8, handle),
        (1, 64, None),
        (2, 4, value),
        (3, 16, value),
        (4, 8, value),
        (5, 8, handle),
    ):
        RESULTS[f"argument {index}"] = set_arg(f, index, size, pointer)
    RESULTS["launch: 0 dimensions"] = launch(queue, f, 0, None, sizes(4), None, 0, None, None)
    RESULTS["launch: 4 dimensions"] = launch(queue, f, 4, None, sizes(4, 4, 4, 4), None, 0, None, None)
    RESULTS["launch: huge group"] = launch(queue, f, 1, None, sizes(1 << 30), sizes(1 << 30), 0, None, None) in (
        -54,
        -55,
    )
    RESULTS["launch: local 0"] = launch(queue, f, 1, None, sizes(4), sizes(0), 0, None, None)
    RESULTS["launch"] = launch(queue, f, 1, None, sizes(4), sizes(2), 0, None, None)
    set_arg(g, 0, 8, handle)
    RESULTS["launch: required size"] = launch(queue, g, 1, None, sizes(8), sizes(2), 0, None, None)
    RESULTS["launch: right size"] = launch(queue, g, 1, None, sizes(8), sizes(4), 0, None, None)
    RESULTS["finish"] = finish(queue)
    RESULTS["argument: other context"] = set_arg(g, 0, 8, handles(foreign)) in (0, -38)


def refusals(device: int, queue: int, f: int) -> None:
    """What only the device can know is said at once, too, also after a launch that it has taken."""
    name = create_string_buffer(256)
    device_info(device, 0x102B, 256, name, None)
    if name.value.startswith((b"pthread", b"cpu")):
        # PoCL ends the process.
        return
    RESULTS["argument: much local memory"] = set_arg(f, 1, 1 << 30, None)
    RESULTS["launch: much local memory"] = launch(queue, f, 1, None, sizes(4), sizes(2), 0, None, None)
    RESULTS["finish: after a refusal"] = finish(queue)
    RESULTS["argument: little local memory"] = set_arg(f, 1, 64, None)
    RESULTS["launch: little local memory"] = launch(queue, f, 1, None, sizes(4), sizes(2), 0, None, None)


def events(context: int, queue: int, buffer: int) -> None:
    RESULTS["wait: none"] = wait(0, None)
    event = created("user event", user_event, context)
    RESULTS["user event: to running"] = set_user(event, 1)
    time = c_uint64()
    RESULTS["user event: profile"] = profile(event, 0x1280, 8, byref(time), None)
    waiting = handles(0)
    host = create_string_buffer(4)
    RESULTS["read: waits"] = read(queue, buffer, 0, 0, 4, host, 1, handles(event), waiting)
    RESULTS["user event: fails"] = set_user(event, -5)
    RESULTS["user event: again"] = set_user(event, 0)
    RESULTS["wait: failed"] = wait(1, waiting)
    RESULTS["read: profile without"] = profile(waiting[0], 0x1280, 8, byref(time), None)
    release_event(event)
    RESULTS["release: null"] = release_event(None)


def main() -> None:
    device, context, other, queue = devices_and_contexts()
    buffer, foreign = buffers(context, other, queue)
    f, g = programs(device, context)
    launches(queue, f, g, buffer, foreign)
    refusals(device, queue, f)
    events(context, queue, buffer)
    assert sizeof(c_void_p) == 8
    print(json.dumps(RESULTS))


main()
