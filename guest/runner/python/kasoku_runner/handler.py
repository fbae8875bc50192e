"""From `module.function` to something to call."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from kasoku_runner.failures import InitFailure, describe, stack_trace, text

Call = Callable[[Any, Any], Any]


def load(handler: str) -> Call:
    """Import the handler. Raises InitFailure with Lambda's name of what is wrong; SystemExit passes through."""
    module_name, dot, attribute = handler.rpartition(".")
    if not dot or not module_name or not attribute:
        raise InitFailure("Runtime.MalformedHandlerName", f"handler {handler!r} is not of the form module.function", [])
    module = _import(module_name.replace("/", "."))
    target = getattr(module, attribute, None)
    if target is None:
        raise InitFailure("Runtime.HandlerNotFound", f"handler {attribute!r} missing in module {module_name!r}", [])
    declared = getattr(target, "__kasoku_invoke__", None)
    call = declared if declared is not None else target
    if not callable(call):
        raise InitFailure(
            "Runtime.HandlerNotFound", f"handler {handler!r} is a {type(target).__name__}, not a function", []
        )
    return call  # type: ignore[no-any-return]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}: " if error.lineno else ""
        message = f"syntax error in module {name!r}: {where}{error.msg}"
        raise InitFailure("Runtime.UserCodeSyntaxError", message, stack_trace(error)) from None
    except ImportError as error:
        message = f"unable to import module {name!r}: {text(error)}"
        raise InitFailure("Runtime.ImportModuleError", message, stack_trace(error)) from None
    except SystemExit:
        raise
    except BaseException as error:
        told = describe(error)
        raise InitFailure(told["errorType"], told["errorMessage"], told["stackTrace"]) from None


def set_import_paths(task_root: str, package_paths: list[str]) -> None:
    """The function's own folder first, then the image's packages, then the SDK, which a function may bring itself."""
    sys.path.insert(0, task_root)
    for path in package_paths:
        if path not in sys.path:
            sys.path.append(path)
