"""From how a VM ended to what its caller is told."""

import os
import signal

import msgspec

from kasoku.node.errors import Failure, FunctionFailed, PlatformError
from kasoku.node.vm import VmEnd

_failures = msgspec.json.Decoder(Failure)
_SIGNALS = {
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error",
    signal.SIGABRT: "aborted",
    signal.SIGFPE: "floating point exception",
    signal.SIGILL: "illegal instruction",
}


def explain(end: VmEnd, request_id: str, memory_mib: int) -> FunctionFailed | PlatformError:
    """The error for whoever waited on a VM that ended."""
    prefix = f"RequestId: {request_id} Error: " if request_id else ""
    if end.kind == "exited":
        kind, how = _exit_reason(end.status, memory_mib)
        return FunctionFailed(Failure(kind, f"{prefix}{how}", (), request_id))
    if end.kind == "guest":
        report = tuple(line + "\n" for line in end.report.splitlines()[:200])
        return FunctionFailed(
            Failure("Sandbox.GuestFault", f"{prefix}the guest crashed: {end.message}", report, request_id)
        )
    if end.kind == "lost":
        return PlatformError("ServiceException", f"{prefix}the virtual machine died: {end.message}")
    return PlatformError("ServiceException", f"{prefix}the virtual machine failed: {end.message}")


def _exit_reason(status: int, memory_mib: int) -> tuple[str, str]:
    if os.WIFEXITED(status):
        return "Runtime.ExitError", f"runtime exited with error: exit status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGKILL:
        return (
            "Runtime.OutOfMemory",
            f"runtime exited with error: signal: killed (the function has {memory_mib} MiB of memory)",
        )
    try:
        name = _SIGNALS.get(signal.Signals(number)) or signal.Signals(number).name
    except ValueError:
        name = str(number)
    return "Runtime.ExitError", f"runtime exited with error: signal: {name}"


def read_failure(body: bytes, request_id: str) -> Failure:
    """A failure as the guest tells it, cut to size."""
    try:
        told = _failures.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Failure("Runtime.InvalidResponse", f"the runner's error cannot be read: {error}", (), request_id)
    trace = tuple(line[:4096] for line in told.stack_trace[-100:])
    return Failure(told.error_type[:256], told.error_message[: 256 * 1024], trace, request_id)
