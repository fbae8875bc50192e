"""Failures in the shape that Lambda gives them: errorType, errorMessage, stackTrace."""

import os
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))


class InitFailure(Exception):
    """The handler cannot be had. `kind` is Lambda's name for why."""

    def __init__(self, kind: str, message: str, stack_trace: list[str]) -> None:
        super().__init__(message)
        self.kind = kind
        self.stack_trace = stack_trace

    def describe(self) -> dict[str, Any]:
        return {"errorType": self.kind, "errorMessage": str(self), "stackTrace": self.stack_trace}


def describe(error: BaseException) -> dict[str, Any]:
    """What an exception of the function says of itself."""
    return {"errorType": type(error).__name__, "errorMessage": text(error), "stackTrace": stack_trace(error)}


def text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # an exception whose __str__ raises is still the function's error, not the runner's end
        return f"<{type(error).__name__} that cannot be shown>"


def stack_trace(error: BaseException) -> list[str]:
    """The function's own frames, oldest first, and those of exceptions that caused this one before them."""
    import traceback

    try:
        lines: list[str] = []
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None and cause is not error:
            lines += [*traceback.format_list(_own(cause)), *traceback.format_exception_only(type(cause), cause)]
        return lines + traceback.format_list(_own(error))
    except BaseException:  # hostile exception classes: no trace is better than no answer
        return []


def _own(error: BaseException) -> Any:
    import traceback

    return [f for f in traceback.extract_tb(error.__traceback__) if not _ours(f.filename)]


def _ours(filename: str) -> bool:
    return filename.startswith((HERE, "<frozen importlib")) or filename.endswith("/kasoku/sdk/function.py")
