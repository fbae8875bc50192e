"""Calls the library itself with things that are no handles. Prints the cases that did not answer as they should."""

import ctypes
import json
import sys
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

CL = ctypes.CDLL(sys.argv[1])
#: Functions that take a handle first and return a code: the code for a handle that is none.
BY_CODE = {
    "clGetDeviceInfo": -33,
    "clRetainContext": -34,
    "clReleaseContext": -34,
    "clGetContextInfo": -34,
    "clRetainCommandQueue": -36,
    "clReleaseCommandQueue": -36,
    "clFinish": -36,
    "clFlush": -36,
    "clEnqueueReadBuffer": -36,
    "clEnqueueNDRangeKernel": -36,
    "clEnqueueSVMMap": -36,
    "clEnqueueReadImage": -36,
    "clRetainMemObject": -38,
    "clReleaseMemObject": -38,
    "clGetMemObjectInfo": -38,
    "clGetImageInfo": -38,
    "clGetPipeInfo": -38,
    "clRetainSampler": -41,
    "clRetainProgram": -44,
    "clReleaseProgram": -44,
    "clBuildProgram": -44,
    "clCompileProgram": -44,
    "clGetProgramInfo": -44,
    "clRetainKernel": -48,
    "clReleaseKernel": -48,
    "clSetKernelArg": -48,
    "clGetKernelInfo": -48,
    "clRetainEvent": -58,
    "clReleaseEvent": -58,
    "clGetEventInfo": -58,
    "clSetUserEventStatus": -58,
}


def wild() -> list[int]:
    """Numbers that are no handles: null, small, unaligned, unmapped, and addresses of other things."""
    text = ctypes.create_string_buffer(256)
    return [0, 1, 8, 0xDEADBEEF, 2**64 - 8, 0x7FFF00000000, ctypes.addressof(text), ctypes.addressof(text) + 1, id(CL)]


def main() -> None:
    wrong: dict[str, int] = {}
    platforms = (c_void_p * 1)()
    CL.clIcdGetPlatformIDsKHR(1, platforms, None)
    devices = (c_void_p * 1)()
    CL.clGetDeviceIDs(c_void_p(platforms[0]), c_uint64(0xFFFFFFFF), 1, devices, None)
    create = CL.clCreateContext
    create.restype = c_void_p
    context = create(None, 1, devices, None, None, None)
    buffer_of = CL.clCreateBuffer
    buffer_of.restype = c_void_p
    buffer = buffer_of(c_void_p(context), c_uint64(1), c_size_t(64), None, None)
    released = buffer_of(c_void_p(context), c_uint64(1), c_size_t(64), None, None)
    CL.clReleaseMemObject(c_void_p(released))
    others = [platforms[0], devices[0], context, buffer, released, buffer + 8, buffer + 64 * 1000]
    own = {-33: devices[0], -34: context, -38: buffer}
    for name, code in BY_CODE.items():
        function = getattr(CL, name)
        function.restype = c_int
        for handle in [*wild(), *(other for other in others if other != own.get(code))]:
            got = function(c_void_p(handle), c_uint64(0), c_size_t(0), None, None, None, None, None, None, None)
            if got != code:
                wrong[f"{name}({handle:#x})"] = got
    status = c_int()
    kernel_of = CL.clCreateKernel
    kernel_of.restype = c_void_p
    for handle in [*wild(), context]:
        if kernel_of(c_void_p(handle), c_char_p(b"f"), ctypes.byref(status)) or status.value != -44:
            wrong[f"clCreateKernel({handle:#x})"] = status.value
    count = c_uint()
    if CL.clGetDeviceIDs(c_void_p(context), c_uint64(0xFFFFFFFF), 0, None, ctypes.byref(count)) != -32:
        wrong["clGetDeviceIDs(context)"] = 1
    print(json.dumps(wrong or {"none": 0}))


main()
