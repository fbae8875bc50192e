"""The runner's life: say hello, be told which handler, import it, answer events until the channel closes."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from kasoku_runner import handler, snapshot
from kasoku_runner.channel import Channel
from kasoku_runner.context import Context
from kasoku_runner.failures import InitFailure, describe, stack_trace, text
from kasoku_runner.parts import FRAMES, Parts, yields

PROTOCOL = 1
REHEARSALS = 20
WARM_UP_MS = 60_000
"""What a warm-up event's context says is left; the agent ends an initialisation that takes longer."""
Failure = dict[str, Any]


def run(channel_name: str) -> int:
    """Serve one function; returns the exit status of the VM's program."""
    channel = Channel.open(channel_name)
    _prepare_streams()
    channel.send({"type": "hello", "protocol": PROTOCOL, "pid": os.getpid(), **_identify()})
    first = channel.receive()
    if first is None:
        return 0
    start = time.perf_counter()
    init = first[0]
    os.environ.update(init["environment"])
    saved = "withheld" in init
    if saved:
        snapshot.withhold(init["withheld"])
    handler.set_import_paths(os.environ["LAMBDA_TASK_ROOT"], init["package_paths"])
    try:
        call = handler.load(init["handler"])
        if saved:
            if init["warmup"] is not None:
                _warm_up(channel, call, init)
            snapshot.find_generators()
            _rehearse(init["max_response_bytes"], REHEARSALS)
        read = snapshot.prepare() if saved else []
        if saved:
            with snapshot.noted_pages():
                _rehearse(init["max_response_bytes"], 1)
    except InitFailure as failure:
        return _refuse(channel, failure.describe(), 1)
    except SystemExit as error:
        return _refuse(channel, _exit_failure(error), _exit_status(error))
    except Exception as error:  # a hook before the snapshot
        return _refuse(channel, describe(error), 1)
    _flush()
    channel.send({"type": "ready", "timings": {"imports_ms": _since(start)}, "withheld": read})
    return _serve(channel, call, init["function"], init["max_response_bytes"])


def _warm_up(channel: Channel, call: handler.Call, init: dict[str, Any]) -> None:
    """Serve the function's own event before the snapshot. Raises InitFailure; SystemExit passes through."""
    invocation = {"request_id": "warm-up", "timeout_ms": WARM_UP_MS}
    context = Context(init["function"], invocation)
    payload = init["warmup"].encode()
    limit = init["max_response_bytes"]
    _, failure, exit_status = _answer(call, payload, context, limit, Parts(channel, invocation), _await)
    if failure:
        if exit_status is not None:
            raise SystemExit(exit_status)
        message = f"the warm-up event fails: {failure['errorMessage']}"
        raise InitFailure(failure["errorType"], message, failure["stackTrace"])


def _rehearse(limit: int, times: int) -> None:
    """Serve events of nobody before the snapshot.

    The interpreter adapts code that runs for the first times and fills its free lists: whatever it writes here, no
    clone has to write, and copy a page for.
    """
    reading, writing = os.pipe()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    function = {
        "name": "",
        "version": "",
        "arn": "",
        "memory_mib": 0,
        "instance": "",
        "accelerator": None,
        "concurrency": 1,
    }
    try:
        sender = Channel(writing)
        for _ in range(times):
            sender.send({"type": "restore", "environment": {}, "function": function})
            sender.send({"type": "invoke", "request_id": "", "timeout_ms": 1}, b"{}")
        os.close(writing)
        stage = Channel(reading, nowhere)
        _serve(stage, lambda event, context: event, function, limit, lambda environment: snapshot.rehearse())
    finally:
        os.close(reading)
        os.close(nowhere)


def _serve(
    channel: Channel,
    call: handler.Call,
    function: dict[str, Any],
    limit: int,
    restored: Callable[[dict[str, str]], None] = snapshot.restored,
) -> int:
    version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
    beside = None
    while (frame := channel.receive()) is not None:
        invocation, payload = frame
        if invocation["type"] == "restore":
            function = invocation["function"]
            if failure := _try(restored, invocation["environment"]):
                return _refuse(channel, failure, 1)
            channel.send({"type": "ready", "timings": {}})
            continue
        parts = Parts(channel, invocation)
        context = Context(function, invocation, parts.lent)
        if context.function_version and context.function_version != version:
            # Equal content may have several numbers; one instance serves them all.
            version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"] = context.function_version
        if function["concurrency"] > 1:
            if beside is None:
                from kasoku_runner.beside import Beside

                beside = Beside(function["concurrency"])
            beside.begin(_one, channel, call, payload, context, limit, parts, beside.wait_for)
            continue
        if context.trace_parent:
            os.environ["TRACEPARENT"] = context.trace_parent
        exit_status = _one(channel, call, payload, context, limit, parts, _await)
        os.environ.pop("TRACEPARENT", None)
        if exit_status is not None:
            return exit_status
    return 0


def _one(
    channel: Channel,
    call: handler.Call,
    payload: bytes,
    context: Context,
    limit: int,
    parts: Parts,
    wait_for: Callable[[Any], Any],
) -> int | None:
    """Serve one event; an exit status when the function exits."""
    start = time.perf_counter()
    answer, failure, exit_status = _answer(call, payload, context, limit, parts, wait_for)
    header: dict[str, Any] = {"type": "error" if failure else "result", "request_id": context.aws_request_id}
    if answer[:4] == FRAMES:
        header["format"] = "frames"
    header["timings"] = {"handler_ms": _since(start)}
    if context.trace_parent:
        header["spans"] = _spans(start)
    if phases := _phases():
        header["phases"] = phases
    if exit_status is not None:
        header["final"] = True
    _flush()
    channel.send(header, _encode_failure(failure) if failure else answer)
    return exit_status


def _try(restored: Callable[[dict[str, str]], None], environment: dict[str, str]) -> Failure | None:
    try:
        restored(environment)
    except SystemExit as error:
        return _exit_failure(error)
    except BaseException as error:  # a hook of the function
        return describe(error)
    return None


def _answer(
    call: handler.Call,
    payload: bytes,
    context: Context,
    limit: int,
    parts: Parts,
    wait_for: Callable[[Any], Any],
) -> tuple[bytes, Failure | None, int | None]:
    """One event through the handler: the result as JSON, or a failure, and an exit status when the function exits."""
    try:
        event = parts.decode(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        return b"", _failure("Runtime.UnmarshalError", f"unable to unmarshal input: {text(error)}", []), None
    try:
        result = call(event, context)
        if hasattr(result, "__await__"):
            result = wait_for(result)
        if yields(result):
            result = parts.send(result)
    except SystemExit as error:
        return b"", _exit_failure(error), _exit_status(error)
    except BaseException as error:
        return b"", describe(error), None
    try:
        answer = parts.encode(result)
    except BaseException as error:
        message = f"unable to marshal response: {text(error)}"
        return b"", _failure("Runtime.MarshalError", message, []), None
    if len(answer) > limit:
        message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
        return b"", _failure("Function.ResponseSizeTooLarge", message, []), None
    return answer, None, None


def _await(awaitable: Any) -> Any:
    import asyncio

    async def finish() -> Any:
        return await awaitable

    return asyncio.run(finish())


def _failure(kind: str, message: str, trace: list[str]) -> Failure:
    return {"errorType": kind, "errorMessage": message, "stackTrace": trace}


def _exit_failure(error: SystemExit) -> Failure:
    told = text(error) if error.code is not None and not isinstance(error.code, int) else ""
    message = f"runtime exited with error: exit status {_exit_status(error)}" + (f": {told}" if told else "")
    return _failure("Runtime.ExitError", message, stack_trace(error))


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _encode_failure(failure: Failure) -> bytes:
    return json.dumps(failure).encode()


def _refuse(channel: Channel, failure: Failure, status: int) -> int:
    _flush()
    channel.send({"type": "init_error", "withheld": snapshot.looked_at()}, _encode_failure(failure))
    return status


def _prepare_streams() -> None:
    """A line that was printed before a crash is in the log; a segmentation fault leaves the Python traceback there."""
    import faulthandler

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # The function closed or replaced the stream: its output is its own business.
            continue


def _identify() -> dict[str, str]:
    """What this program runs on, as it sees it."""
    try:
        with open("/proc/version", encoding="utf-8", errors="replace") as file:
            system = file.read(256).strip()
    except OSError:
        system = " ".join(os.uname())[:256]
    return {"python": sys.version.split()[0], "system": system}


def _phases() -> dict[str, float]:
    phases = sys.modules.get("kasoku.sdk.phases")
    return phases.drain() if phases else {}


def _spans(start: float) -> list[tuple[str, float, float]]:
    phases = sys.modules.get("kasoku.sdk.phases")
    return phases.spans(start) if phases else []


def _since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)
