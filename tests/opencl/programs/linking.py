"""Separate compilation: parts, libraries, given headers, binaries of all of them, constants of SPIR-V."""

import json
import struct
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

cl: Any = import_module("pyopencl")
raw: Any = import_module("pyopencl._cl")
warnings.simplefilter("ignore")

DIRECTORY = Path(sys.argv[1])
CONTEXT = cl.create_some_context(interactive=False)
DEVICE = CONTEXT.devices[0]
QUEUE = cl.CommandQueue(CONTEXT)
RESULTS: dict[str, Any] = {}
INFO, BUILD = cl.program_info, cl.program_build_info
MAIN = """int f(int x);
kernel void k(global int *restrict out, const int scale) { out[get_global_id(0)] = scale * f(get_global_id(0)); }"""


def source(text: str) -> Any:
    return raw._Program(CONTEXT, text)


def binary(program: Any) -> Any:
    """The same program again, of its binary."""
    return raw._Program(CONTEXT, [DEVICE], [program.get_info(INFO.BINARIES)[0]])


def compiled(text: str, headers: list[tuple[str, Any]] | None = None, options: str = "") -> Any:
    program = source(text)
    program.compile(options.encode(), [DEVICE], headers or [])
    return program


def link(parts: list[Any], options: str = "") -> Any:
    return raw._Program.link(CONTEXT, parts, options.encode(), [DEVICE])


def run(program: Any) -> list[int]:
    out = np.zeros(6, np.int32)
    buffer = cl.Buffer(CONTEXT, cl.mem_flags.READ_WRITE, out.nbytes)
    kernel = raw.Kernel(program, "k")
    kernel.set_arg(0, buffer)
    kernel.set_arg(1, np.int32(10))
    cl.enqueue_nd_range_kernel(QUEUE, kernel, out.shape, None)
    cl.enqueue_copy(QUEUE, out, buffer)
    return [int(value) for value in out]


def code(call: Any, *arguments: Any) -> int:
    try:
        call(*arguments)
    except cl.Error as error:
        return int(error.code)
    return 0


def kind(program: Any) -> int:
    return int(program.get_build_info(DEVICE, BUILD.BINARY_TYPE))


def parts_and_libraries() -> None:
    (DIRECTORY / "sub").mkdir(parents=True, exist_ok=True)
    (DIRECTORY / "sub" / "file.h").write_text("#define FROM_FILE 1\n")
    given = source('#include "other/deep.h"\n#define W (DEEP + FROM_FILE)\n')
    headers = [("h.h", given), ("other/deep.h", source("#define DEEP 6\n"))]
    main = compiled(MAIN)
    helper = compiled(
        '#include <file.h>\n#include "h.h"\nint f(int x) { return x * W; }', headers, f"-I {DIRECTORY}/sub"
    )
    RESULTS["kinds: compiled"] = [kind(main), kind(helper)]
    linked = link([main, helper])
    RESULTS["linked"] = [run(linked), kind(linked), linked.get_info(INFO.KERNEL_NAMES)]
    RESULTS["linked: statuses"] = linked.get_build_info(DEVICE, BUILD.STATUS)
    library = link([helper], "-create-library")
    RESULTS["library"] = kind(library)
    RESULTS["linked with a library"] = run(link([main, library]))
    again = [binary(main), binary(helper), binary(library)]
    RESULTS["relinked"] = [run(link(again[:2])), run(link([again[0], again[2]]))]
    executable = binary(linked)
    executable._build(b"", [DEVICE])
    RESULTS["reloaded"] = run(executable)


def failures() -> None:
    main = compiled(MAIN)
    RESULTS["compile: broken"] = code(compiled, "kernel void k( {")
    RESULTS["compile: no header"] = code(compiled, '#include "nowhere.h"')
    RESULTS["compile: option"] = code(compiled, MAIN, None, "-no-such-option")
    RESULTS["kernel: compiled only"] = code(raw.Kernel, main, "k")
    executable = source("kernel void k(global int *out, int scale) { out[0] = scale; }")
    executable._build(b"", [DEVICE])
    kernel = raw.Kernel(executable, "k")
    RESULTS["compile: kernels exist"] = code(executable.compile, b"", [DEVICE], [])
    del kernel
    executable.compile(b"", [DEVICE], [])
    RESULTS["built, then compiled"] = kind(executable)


def arguments() -> None:
    """What arguments are, also of a program that comes from a binary."""
    program = source(MAIN.replace("int f(int x);", "int f(int x) { return x; }"))
    program._build(b"-cl-kernel-arg-info", [DEVICE])
    again = binary(program)
    again._build(b"-cl-kernel-arg-info", [DEVICE])

    def told(program: Any) -> list[Any]:
        kernel = raw.Kernel(program, "k")
        parameters = ("NAME", "TYPE_NAME", "ADDRESS_QUALIFIER", "ACCESS_QUALIFIER", "TYPE_QUALIFIER")
        return [
            kernel.get_arg_info(index, getattr(cl.kernel_arg_info, name)) for index in (0, 1) for name in parameters
        ]

    RESULTS["arguments"] = told(program)
    # Natively not every implementation knows.
    RESULTS["arguments: reloaded"] = code(told, again) == 0 and told(again) == told(program)


def instruction(operation: int, *operands: int) -> list[int]:
    return [(len(operands) + 1) << 16 | operation, *operands]


def constants() -> None:
    """`kernel void k(global uint *out) { *out = CONSTANT; }`, with constant number 7 of value 5."""
    name = struct.unpack("<1I", b"k\0\0\0")[0]
    words = [0x07230203, 0x00010000, 0, 20, 0]
    words += instruction(17, 4) + instruction(17, 6) + instruction(14, 2, 2) + instruction(15, 6, 1, name)
    words += instruction(71, 2, 1, 7) + instruction(19, 3) + instruction(21, 4, 32, 0) + instruction(32, 5, 5, 4)
    words += instruction(33, 6, 3, 5) + instruction(50, 4, 2, 5) + instruction(54, 3, 1, 0, 6) + instruction(55, 5, 7)
    words += instruction(248, 8) + instruction(62, 7, 2, 2, 4) + instruction(253) + instruction(56)
    text = struct.pack(f"<{len(words)}I", *words)

    def value(constant: int | None) -> int:
        program = raw._create_program_with_il(CONTEXT, text)
        if constant is not None:
            program.set_specialization_constant(7, np.uint32(constant))
        program._build(b"", [DEVICE])
        out = np.zeros(1, np.uint32)
        buffer = cl.Buffer(CONTEXT, cl.mem_flags.READ_WRITE, 4)
        kernel = raw.Kernel(program, "k")
        kernel.set_arg(0, buffer)
        cl.enqueue_nd_range_kernel(QUEUE, kernel, (1,), None)
        cl.enqueue_copy(QUEUE, out, buffer)
        return int(out[0])

    RESULTS["constants"] = [value(None), value(1234)]
    program = raw._create_program_with_il(CONTEXT, text)
    RESULTS["constants: unknown"] = code(program.set_specialization_constant, 8, np.uint32(1))
    RESULTS["constants: size"] = code(program.set_specialization_constant, 7, np.uint64(1))
    RESULTS["constants: of a source"] = code(source(MAIN).set_specialization_constant, 7, np.uint32(1))


parts_and_libraries()
failures()
arguments()
if DEVICE.il_version:
    constants()
print(json.dumps(RESULTS))
