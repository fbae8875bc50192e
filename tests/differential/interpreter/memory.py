"""Operations on memory, all within one stretch of addresses that nothing else uses, in pages counted from its start."""

import ctypes
import os
from typing import Any

from files import contents, pattern
from kernel import LIBC, call, operation, private_pipe

START = 0x2000_0000_0000
PAGES = 64
PAGE = 4096
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20

LIBC.mmap.restype = ctypes.c_void_p


def relative(address: int) -> int:
    return (address - START) // PAGE


@operation
def map_(page: int, pages: int, protection: int, flags: int, fd: int, file_page: int) -> Any:
    if flags & MAP_ANONYMOUS:
        fd = -1
    return relative(call(9, START + page * PAGE, pages * PAGE, protection, flags | MAP_FIXED, fd, file_page * PAGE))


@operation
def unmap(page: int, pages: int) -> Any:
    return call(11, START + page * PAGE, pages * PAGE)


@operation
def protect(page: int, pages: int, protection: int) -> Any:
    return call(10, START + page * PAGE, pages * PAGE, protection)


@operation
def remap(page: int, pages: int, new_pages: int, target: int) -> Any:
    """Moves to a given place, or changes the size where it is."""
    flags = 3 if target >= 0 else 0
    address = call(25, START + page * PAGE, pages * PAGE, new_pages * PAGE, flags, START + target * PAGE)
    return relative(address)


@operation
def advise(page: int, pages: int, advice: int) -> Any:
    return call(28, START + page * PAGE, pages * PAGE, advice)


@operation
def msync(page: int, pages: int, flags: int) -> Any:
    return call(26, START + page * PAGE, pages * PAGE, flags)


@operation
def lock_memory(page: int, pages: int) -> Any:
    return call(149, START + page * PAGE, pages * PAGE)


@operation
def peek(page: int, offset: int, count: int) -> Any:
    """Reads memory as the kernel does for a write into a pipe: what cannot be read is an error, not a signal."""
    reader, writer = private_pipe()
    try:
        os.set_blocking(writer, False)
        written = call(1, writer, START + page * PAGE + offset, count)
        return contents(os.read(reader, written))
    finally:
        os.close(reader)
        os.close(writer)


@operation
def poke(page: int, offset: int, count: int) -> Any:
    """Writes memory as the kernel does for a read from a pipe."""
    reader, writer = private_pipe()
    try:
        os.write(writer, pattern(count)[:count])
        return call(0, reader, START + page * PAGE + offset, count)
    finally:
        os.close(reader)
        os.close(writer)


@operation
def touch(page: int, offset: int, write: bool) -> Any:
    """One access by an instruction, in a child: the byte that it read, or the signal that ended it."""
    child = os.fork()
    if child == 0:
        address = START + page * PAGE + offset
        if write:
            ctypes.memset(address, 7, 1)
        os._exit(ctypes.string_at(address, 1)[0])
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@operation
def mappings() -> Any:
    """The stretch as /proc/self/maps tells it, neighbours of one kind together: Linux promises no merging."""
    told: list[list[Any]] = []
    with open("/proc/self/maps") as file:
        for line in file:
            words = line.split(maxsplit=5)
            first, last = (relative(int(word, 16)) for word in words[0].split("-"))
            if not 0 <= first < PAGES:
                continue
            name = os.path.basename(words[5].strip()) if len(words) > 5 else ""
            offset = int(words[2], 16) // PAGE if name else 0
            entry = [first, last, words[1], offset, name]
            same = told and told[-1][1] == first and told[-1][2] == words[1] and told[-1][4] == name
            if same and (not name or told[-1][3] + told[-1][1] - told[-1][0] == offset):
                told[-1][1] = last
            else:
                told.append(entry)
    return told
