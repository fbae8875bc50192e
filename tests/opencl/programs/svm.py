"""Coarse-grained shared virtual memory: pointers that program and kernels share, commands on them, and wrong calls."""

import ctypes
import json
import sys
import threading
from ctypes import c_size_t, c_uint, c_uint64, c_void_p
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")

SOURCE = """
struct node { global struct node *next; int value; };
kernel void walk(global struct node *first, global int *sum)
{
    int total = 0;
    for (global struct node *node = first; node; node = node->next) {
        total += node->value;
        node->value = -node->value;
    }
    *sum = total;
}
kernel void add(global int *values, int amount) { values[get_global_id(0)] += amount; }
kernel void where(global int *place, global ulong *answer) { *answer = (ulong)place; }
"""
COUNT = 1 << 16
CODES: dict[str, int] = {}
CHECKS: dict[str, bool] = {}
MAP_READ, MAP_WRITE = 1, 2


def loader() -> Any:
    """The ICD loader that pyopencl uses."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libOpenCL" in line:
            return ctypes.CDLL(line.split(maxsplit=5)[5])
    raise RuntimeError("no loader")


CL: Any = loader()
CL.clSVMAlloc.restype = c_void_p


def handle(of: Any) -> c_void_p:
    return c_void_p(of.int_ptr)


class Blocks:
    """Allocations of one context."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def allocate(self, size: int, alignment: int = 0, flags: int = 1) -> int:
        return int(CL.clSVMAlloc(handle(self.context), c_uint64(flags), c_size_t(size), c_uint(alignment)) or 0)

    def array(self, count: int) -> np.ndarray:
        """Numbers in a block of their own."""
        address = self.allocate(4 * count)
        assert address, "no shared virtual memory"
        return np.ctypeslib.as_array((ctypes.c_int32 * count).from_address(address))

    def free(self, address: int) -> None:
        CL.clSVMFree(handle(self.context), c_void_p(address))


def at(array: np.ndarray, index: int = 0) -> int:
    return int(array.ctypes.data) + 4 * index


def ok(code: int) -> None:
    assert code == 0, code


def memcpy(queue: Any, to: int, source: int, size: int, blocking: int = 1, waits: Any = (), event: Any = None) -> int:
    listed = (c_void_p * len(waits))(*[wait.int_ptr for wait in waits]) if waits else None
    q, to_pointer = handle(queue), c_void_p(to)
    copy = CL.clEnqueueSVMMemcpy
    return int(copy(q, c_uint(blocking), to_pointer, c_void_p(source), c_size_t(size), len(waits), listed, event))


def mapped(queue: Any, array: np.ndarray, flags: int = MAP_READ | MAP_WRITE) -> None:
    """Wait for the queue's turn with `array`."""
    ok(
        CL.clEnqueueSVMMap(
            handle(queue), 1, c_uint64(flags), c_void_p(at(array)), c_size_t(array.nbytes), 0, None, None
        )
    )


def unmapped(queue: Any, array: np.ndarray) -> None:
    ok(CL.clEnqueueSVMUnmap(handle(queue), c_void_p(at(array)), 0, None, None))


def fill(queue: Any, address: int, pattern: bytes, size: int) -> int:
    place, count = c_void_p(address), c_size_t(len(pattern))
    return int(CL.clEnqueueSVMMemFill(handle(queue), place, pattern, count, c_size_t(size), 0, None, None))


def pointer(kernel: Any, index: int, address: int) -> int:
    return int(CL.clSetKernelArgSVMPointer(handle(kernel), c_uint(index), c_void_p(address)))


def reaches(kernel: Any, *addresses: int) -> int:
    """Tell what a kernel reaches by pointers in memory."""
    listed = (c_void_p * len(addresses))(*addresses)
    return int(CL.clSetKernelExecInfo(handle(kernel), 0x11B6, c_size_t(8 * len(addresses)), listed))


def lists(queue: Any, program: Any, blocks: Blocks) -> None:
    """A list whose nodes lie in two blocks."""
    sizes = (16 * 50, 16 * 50)
    first, second = (blocks.allocate(size) for size in sizes)
    total = blocks.array(1)
    values = list(range(1, 101))
    places = [(first if number % 2 else second) + 16 * (number // 2) for number in range(100)]
    for number, place in enumerate(places):
        ctypes.c_uint64.from_address(place).value = places[number + 1] if number < 99 else 0
        ctypes.c_int32.from_address(place + 8).value = values[number]
    kernel = cl.Kernel(program, "walk")
    ok(pointer(kernel, 0, places[0]))
    ok(pointer(kernel, 1, at(total)))
    ok(reaches(kernel, first, second))
    cl.enqueue_nd_range_kernel(queue, kernel, (1,), (1,))
    mapped(queue, total)
    CHECKS["a list"] = int(total[0]) == sum(values)
    CHECKS["a list: changed"] = ctypes.c_int32.from_address(places[7] + 8).value == -values[7]
    unmapped(queue, total)
    queue.finish()

    kernel = cl.Kernel(program, "where")
    answer = blocks.array(2)
    ok(pointer(kernel, 0, at(total) + 0))
    ok(pointer(kernel, 1, at(answer)))
    cl.enqueue_nd_range_kernel(queue, kernel, (1,), (1,))
    mapped(queue, answer)
    CHECKS["the same address"] = int(answer.view(np.uint64)[0]) == at(total)
    unmapped(queue, answer)
    queue.finish()
    for address in (first, second, at(total), at(answer)):
        blocks.free(address)


def copies(queue: Any, program: Any, blocks: Blocks, rng: np.random.Generator) -> None:
    numbers = rng.integers(-1000, 1000, COUNT, dtype=np.int32)
    a, b = blocks.array(COUNT), blocks.array(COUNT)
    ok(memcpy(queue, at(a), numbers.ctypes.data, numbers.nbytes))
    kernel = cl.Kernel(program, "add")
    kernel.set_arg(1, np.int32(3))
    ok(pointer(kernel, 0, at(a)))
    out = np.zeros(COUNT, np.int32)
    gate = cl.UserEvent(queue.context)
    # All of it waits for the gate; each part sees what came before it, and the copies come later than the calls.
    ok(memcpy(queue, at(a), numbers.ctypes.data, 4, 0, [gate]))
    cl.enqueue_nd_range_kernel(queue, kernel, (COUNT,), None)
    ok(memcpy(queue, at(b), at(a), a.nbytes, 0))
    ok(pointer(kernel, 0, at(b, COUNT // 2)))
    cl.enqueue_nd_range_kernel(queue, kernel, (COUNT // 2,), None)
    event = c_void_p()
    ok(memcpy(queue, out.ctypes.data, at(b), out.nbytes, 0, [], ctypes.byref(event)))
    done = cl.Event.from_int_ptr(event.value, retain=False)
    CHECKS["copies: not yet"] = not out.any()
    gate.set_status(cl.command_execution_status.COMPLETE)
    done.wait()
    expected = numbers + 3
    expected[COUNT // 2 :] += 3
    CHECKS["copies"] = bool((out == expected).all())
    CODES["kind of a copy"] = int(done.command_type)

    ok(fill(queue, at(a), b"\1\2\3\4" * 4, a.nbytes // 2))
    ok(fill(queue, at(a, COUNT // 2), b"\xff", a.nbytes // 2))
    ok(memcpy(queue, at(b), at(a), a.nbytes))
    half = np.frombuffer(b"\1\2\3\4", np.int32)[0]
    CHECKS["fills"] = bool((b[: COUNT // 2] == half).all() and (b[COUNT // 2 :] == -1).all())
    other = np.empty_like(numbers)
    ok(memcpy(queue, other.ctypes.data, numbers.ctypes.data, numbers.nbytes, 0))
    queue.finish()
    CHECKS["outside"] = bool((other == numbers).all())
    for array in (a, b):
        blocks.free(at(array))


def buffers(queue: Any, program: Any, blocks: Blocks, rng: np.random.Generator) -> None:
    """Buffers over shared virtual memory, and transfers of buffers to and from it."""
    context, flags = queue.context, cl.mem_flags
    numbers = rng.integers(-1000, 1000, COUNT, dtype=np.int32)
    shared = blocks.array(COUNT)
    mapped(queue, shared)
    shared[:] = numbers
    unmapped(queue, shared)
    queue.finish()
    over = cl.Buffer(context, flags.READ_WRITE | flags.USE_HOST_PTR, hostbuf=shared)
    CHECKS["a buffer over it"] = bool(over.get_info(cl.mem_info.USES_SVM_POINTER))
    kernel = cl.Kernel(program, "add")
    kernel.set_args(over, np.int32(5))
    cl.enqueue_nd_range_kernel(queue, kernel, (COUNT,), None)
    view, _ = cl.enqueue_map_buffer(queue, over, cl.map_flags.READ, 0, (COUNT,), np.int32)
    CHECKS["a buffer over it: computed"] = bool((shared == numbers + 5).all())
    CHECKS["a buffer over it: mapped"] = int(view.ctypes.data) == at(shared)
    view.base.release(queue)
    queue.finish()
    del view
    over.release()

    source = cl.Buffer(context, flags.READ_WRITE | flags.COPY_HOST_PTR, hostbuf=numbers)
    ok(pointer(kernel, 0, at(shared)))
    kernel.set_arg(1, np.int32(7))
    cl.enqueue_nd_range_kernel(queue, kernel, (COUNT,), None)
    # A kernel sees what a command before it has read to shared virtual memory.
    cl.enqueue_copy(queue, shared, source, is_blocking=False)
    cl.enqueue_nd_range_kernel(queue, kernel, (COUNT,), None)
    cl.enqueue_copy(queue, source, shared, is_blocking=False)
    out = np.empty_like(numbers)
    cl.enqueue_copy(queue, out, source)
    CHECKS["transfers"] = bool((out == numbers + 7).all())
    blocks.free(at(shared))


def frees(queue: Any, blocks: Blocks) -> None:
    """Freeing comes in its turn, by a function of the program or without."""
    first, second = blocks.allocate(4096), blocks.allocate(4096)
    gate = cl.UserEvent(queue.context)
    called = threading.Event()
    told: list[Any] = []

    def freed(_queue: int, count: int, pointers: Any, data: int) -> None:
        told.extend([count, pointers[0] == first, data])
        blocks.free(pointers[0])
        called.set()

    notify = ctypes.CFUNCTYPE(None, c_void_p, c_uint, ctypes.POINTER(c_void_p), c_void_p)(freed)
    listed, event = (c_void_p * 1)(first), c_void_p()
    waits = (c_void_p * 1)(gate.int_ptr)
    free = CL.clEnqueueSVMFree
    ok(free(handle(queue), 1, listed, notify, c_void_p(77), 1, waits, ctypes.byref(event)))
    done = cl.Event.from_int_ptr(event.value, retain=False)
    CHECKS["free: not yet"] = not called.is_set() and done.command_execution_status > 0
    gate.set_status(cl.command_execution_status.COMPLETE)
    done.wait()
    CHECKS["free: called"] = called.is_set() and told == [1, True, 77]
    CODES["kind of a free"] = int(done.command_type)
    ok(free(handle(queue), 1, (c_void_p * 1)(second), None, None, 0, None, None))
    queue.finish()


def mistakes(queue: Any, program: Any, blocks: Blocks) -> None:
    address, out = blocks.allocate(4096), np.zeros(1024, np.int32)
    q, host = handle(queue), int(out.ctypes.data)
    kernel = cl.Kernel(program, "add")
    CODES["allocate: nothing"] = int(blocks.allocate(0) != 0)
    CODES["allocate: odd alignment"] = int(blocks.allocate(64, 3) != 0)
    CODES["allocate: alignment 128"] = int(blocks.allocate(64, 128) % 128)
    CODES["allocate: both accesses"] = int(blocks.allocate(64, 0, 2 | 4) != 0)
    CODES["copy: from nowhere"] = memcpy(queue, address, 0, 16)
    CODES["copy: overlap"] = memcpy(queue, address + 8, address, 16)
    CODES["fill: no pattern"] = CL.clEnqueueSVMMemFill(
        q, c_void_p(address), None, c_size_t(4), c_size_t(16), 0, None, None
    )
    CODES["fill: pattern of 3"] = fill(queue, address, b"abc", 12)
    CODES["fill: odd size"] = fill(queue, address, b"abcd", 15)
    CODES["fill: unaligned"] = fill(queue, address + 2, b"abcd", 16)
    CODES["map: nowhere"] = CL.clEnqueueSVMMap(q, 1, c_uint64(1), None, c_size_t(16), 0, None, None)
    CODES["map: nothing"] = CL.clEnqueueSVMMap(q, 1, c_uint64(1), c_void_p(address), c_size_t(0), 0, None, None)
    CODES["unmap: nowhere"] = CL.clEnqueueSVMUnmap(q, None, 0, None, None)
    CODES["migrate: nothing"] = CL.clEnqueueSVMMigrateMem(q, 0, None, None, c_uint64(0), 0, None, None)
    listed = (c_void_p * 1)(address)
    CODES["migrate"] = CL.clEnqueueSVMMigrateMem(q, 1, listed, None, c_uint64(0), 0, None, None)
    CODES["argument: no such"] = pointer(kernel, 9, address)
    CODES["exec info: nothing"] = CL.clSetKernelExecInfo(handle(kernel), c_uint(0x11B6), c_size_t(8), None)
    CODES["exec info: odd size"] = CL.clSetKernelExecInfo(handle(kernel), c_uint(0x11B6), c_size_t(7), listed)
    CODES["exec info: unknown"] = CL.clSetKernelExecInfo(handle(kernel), c_uint(0x11B0), c_size_t(8), listed)
    CODES["free: nowhere"] = CL.clEnqueueSVMFree(q, 1, None, None, None, 0, None, None)
    ok(memcpy(queue, host, address, 16))
    blocks.free(0)
    blocks.free(address)


def main() -> None:
    rng = np.random.default_rng(int(sys.argv[1]))
    device = cl.get_platforms()[0].get_devices()[0]
    context = cl.Context([device])
    queue = cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
    program = cl.Program(context, SOURCE).build()
    CHECKS["coarse grain"] = bool(device.svm_capabilities & cl.device_svm_capabilities.COARSE_GRAIN_BUFFER)
    blocks = Blocks(context)
    lists(queue, program, blocks)
    copies(queue, program, blocks, rng)
    buffers(queue, program, blocks, rng)
    frees(queue, blocks)
    mistakes(queue, program, blocks)
    queue.finish()
    print(json.dumps({"checks": CHECKS, "codes": CODES}))


main()
