"""Operations on processes and signals."""

import ctypes
import os
import resource
import signal
import struct
from typing import Any

from kernel import OPERATIONS, answer, call, operation, private_pipe

received: list[int] = []


def note(number: int, _frame: Any) -> None:
    received.append(number)


@operation
def handle(number: int, how: str) -> Any:
    handlers: dict[str, Any] = {"default": signal.SIG_DFL, "ignore": signal.SIG_IGN, "note": note}
    old = signal.signal(number, handlers[how])
    return next(name for name, handler in handlers.items() if handler == old)


@operation
def raise_(number: int) -> Any:
    """Only signals that end nothing here: those that are handled, ignored or blocked."""
    blocked = number in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if not blocked and signal.getsignal(number) == signal.SIG_DFL:
        return "left out"
    call(234, os.getpid(), os.getpid(), number)
    return 0


@operation
def queue(number: int, value: int) -> Any:
    if number not in signal.pthread_sigmask(signal.SIG_BLOCK, []):
        return "left out"
    return call(129, os.getpid(), number, struct.pack("=iiixxxxiixxxxq", number, 0, -1, 0, 0, value).ljust(128, b"\0"))


@operation
def delivered() -> Any:
    """Which handlers ran. Python runs them by number, so the order tells nothing."""
    found = sorted(received)
    received.clear()
    return found


@operation
def mask(how: int, numbers: list[int]) -> Any:
    return sorted(int(number) for number in signal.pthread_sigmask(how, numbers))


@operation
def pending() -> Any:
    return sorted(int(number) for number in signal.sigpending())


@operation
def take(numbers: list[int]) -> Any:
    found = signal.sigtimedwait(numbers, 0)
    return found and [found.si_signo, found.si_code, found.si_pid == os.getpid()]


def in_child(operations: list[Any], end: list[Any], writer: int, go: int) -> None:
    answers = [answer(name, arguments) for name, arguments in operations if name in OPERATIONS]
    os.write(writer, repr(answers).encode()[:60_000])
    os.close(writer)
    if end[0] == "signal":
        if end[1] not in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGKILL):
            signal.signal(end[1], signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [end[1]])
        os.kill(os.getpid(), end[1])
        if end[1] == signal.SIGSTOP:
            # Its end does not overtake the news that it goes on.
            os.read(go, 1)
    os._exit(end[1] & 0xFF)


@operation
def fork(operations: list[Any], end: list[Any]) -> Any:
    """A child does some operations and ends; what it answered and what a parent is told of it."""
    reader, writer = private_pipe()
    go_reader, go_writer = private_pipe()
    child = os.fork()
    if child == 0:
        os.close(go_writer)
        try:
            in_child(operations, end, writer, go_reader)
        finally:
            os._exit(98)
    os.close(writer)
    os.close(go_reader)
    with os.fdopen(reader, "rb") as file:
        told: list[Any] = [file.read().decode()]
    while True:
        flags = os.WEXITED | os.WSTOPPED | os.WCONTINUED
        seen = os.waitid(os.P_PID, child, flags | os.WNOWAIT)
        done = os.waitid(os.P_PID, child, flags)
        assert seen and done
        told.append([seen.si_code == done.si_code, done.si_signo, done.si_code, done.si_status, done.si_pid == child])
        if done.si_code == os.CLD_STOPPED:
            os.kill(child, signal.SIGCONT)
        elif done.si_code == os.CLD_CONTINUED:
            os.close(go_writer)
            go_writer = -1
        else:
            if go_writer >= 0:
                os.close(go_writer)
            return told


@operation
def wait(options: int) -> Any:
    """There are no children that were not waited for."""
    return os.waitpid(-1, options)


@operation
def execute(path: str, arguments: list[str]) -> Any:
    """A program, or why there is none; standard output and the descriptors that it inherits."""
    reader, writer = private_pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        try:
            os.execve(path, arguments, {"LC_ALL": "C"})
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(97)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read().decode(errors="replace")
    return [told, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


@operation
def group(pid: int, target: int) -> Any:
    return call(109, pid, target)


@operation
def groups() -> Any:
    own = os.getpid()
    return [os.getpgrp() == own, os.getsid(0) == own, os.getppid() > 0]


@operation
def session() -> Any:
    return call(112) == os.getpid()


@operation
def kill(pid: int, number: int) -> Any:
    """Numbers of processes that cannot exist, or nobody's signal."""
    return call(62, pid, number)


@operation
def limit(which: int, soft: int, hard: int) -> Any:
    """Only lowers what a descriptor's number, a file's size or a core may be."""
    old = resource.getrlimit(which)
    resource.setrlimit(which, (soft, min(hard, old[1]) if old[1] >= 0 else hard))
    return resource.getrlimit(which)


@operation
def nice(by: int) -> Any:
    return os.nice(by)


@operation
def name(text: str) -> Any:
    buffer = ctypes.create_string_buffer(16)
    call(157, 15, text.encode(), 0, 0, 0)
    call(157, 16, buffer, 0, 0, 0)
    return buffer.value.decode()


@operation
def identity(real: int, effective: int, saved: int) -> Any:
    call(117, real, effective, saved)
    return os.getresuid() == (65534, 65534, 65534)
