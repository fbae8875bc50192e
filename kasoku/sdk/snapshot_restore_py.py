"""Hooks around a snapshot, by the interface of AWS's `snapshot_restore_py`: in a guest this file has that name.

What is registered with `register_before_snapshot` is called before the snapshot, the last first; what is registered
with `register_after_restore` is called in every instance that was restored, before its first event, the first first.
"""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Hook = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_before_snapshot: list[Hook] = []
_after_restore: list[Hook] = []


def register_before_snapshot(func: F, *args: Any, **kwargs: Any) -> F:
    """Call `func(*args, **kwargs)` before the snapshot. Can be used as a decorator."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func: F, *args: Any, **kwargs: Any) -> F:
    """Call `func(*args, **kwargs)` after each restore. Can be used as a decorator."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot() -> list[Hook]:
    """What was registered, in the order of registration."""
    return _before_snapshot


def get_after_restore() -> list[Hook]:
    """What was registered, in the order of registration."""
    return _after_restore
