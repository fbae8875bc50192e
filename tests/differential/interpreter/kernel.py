"""Raw system calls for the interpreter, and what their answers look like."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

Operation = Callable[..., Any]
OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    """Registers an operation under its function's name."""
    OPERATIONS[function.__name__.rstrip("_")] = function
    return function


def call(number: int, *arguments: Any) -> int:
    """A system call; raises OSError where it fails."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(LIBC.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def answer(name: str, arguments: list[Any]) -> Any:
    """What one operation gives: its value, or the name of its error."""
    try:
        return OPERATIONS[name](*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    except (ValueError, OverflowError) as error:
        return type(error).__name__


def private_pipe() -> tuple[int, int]:
    """A pipe with numbers that no sequence uses, closed in programs that are started."""
    ends = []
    for low in os.pipe():
        try:
            ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 910))
        finally:
            os.close(low)
    return ends[0], ends[1]
