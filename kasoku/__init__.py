"""Kasoku: serverless functions in unikernels, each with an accelerator of its own.

This module is what a function file imports (`import kasoku`), on a developer's machine and inside the guest alike: it
and `kasoku.sdk` need nothing but the standard library. Names are loaded on first use, so that `import kasoku` costs
nothing in programs that want a sub-package only (the command line, the runner).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kasoku.sdk.app import App as App
    from kasoku.sdk.blob import Blob as Blob
    from kasoku.sdk.errors import FunctionError as FunctionError
    from kasoku.sdk.errors import KasokuError as KasokuError
    from kasoku.sdk.errors import ServiceError as ServiceError
    from kasoku.sdk.function import Function as Function
    from kasoku.sdk.phases import phase as phase
    from kasoku.sdk.phases import record_phase as record_phase

__version__ = "0.1.0"
__all__ = ["App", "Blob", "Function", "FunctionError", "KasokuError", "ServiceError", "phase", "record_phase"]

_HOMES = {
    "App": "kasoku.sdk.app",
    "Blob": "kasoku.sdk.blob",
    "Function": "kasoku.sdk.function",
    "FunctionError": "kasoku.sdk.errors",
    "KasokuError": "kasoku.sdk.errors",
    "ServiceError": "kasoku.sdk.errors",
    "phase": "kasoku.sdk.phases",
    "record_phase": "kasoku.sdk.phases",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'kasoku' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
