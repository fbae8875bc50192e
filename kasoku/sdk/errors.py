"""What a caller of a function can catch."""

import builtins
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn


class KasokuError(Exception):
    """Base of everything that Kasoku raises at its users."""


class OptionError(KasokuError):
    """A function's option is unknown, of a wrong type, or out of range. `option` names it."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"option {option!r}: {reason}")
        self.option = option
        self.reason = reason


class DeclarationError(KasokuError):
    """A function file that `kasoku deploy` cannot read: the file, the line and the reason are in the message."""

    def __init__(self, file: str, line: int | None, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")
        self.line = line
        self.reason = reason


class ServiceError(KasokuError):
    """The platform refused or could not serve a request. `code` is Lambda's error name, `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class FunctionError(KasokuError):
    """The function ran and failed. `type`, `message` and `stack_trace` are what it reported inside its VM; `detail` is
    what the gateway tells beside it: request id, log, and where it ran."""

    def __init__(
        self,
        type: str,
        message: str,
        stack_trace: Sequence[str] = (),
        detail: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        text = f"{type}: {message}"
        if stack_trace:
            text += "\n\nTraceback in the function (most recent call last):\n" + "".join(stack_trace).rstrip()
        super().__init__(text)
        self.type = type
        self.message = message
        self.stack_trace = tuple(stack_trace)
        self.detail = detail

    def __str__(self) -> str:
        # Not that of a built-in class beside this one (see raise_remote): KeyError shows its argument's repr.
        return str(self.args[0])


def raise_remote(error: Mapping[str, Any], detail: Mapping[str, Any]) -> NoReturn:
    """Raise what a function raised in its VM: a FunctionError that is also of the built-in class of that name.

    So `except ZeroDivisionError` works on both sides. Only classes of `builtins` are looked up: a name from a VM
    decides nothing else.
    """
    kind = str(error.get("errorType", "Error"))
    message, trace = str(error.get("errorMessage", "")), error.get("stackTrace") or ()
    raise _class_of(kind)(kind, message, trace, detail)


def _class_of(kind: str) -> type[FunctionError]:
    known = getattr(builtins, kind, None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        return FunctionError
    try:
        made = type(kind, (FunctionError, known), {"__module__": __name__})
        made(kind, "")
    except (TypeError, ValueError):  # one with a memory layout or arguments of its own, such as UnicodeDecodeError
        return FunctionError
    return made
