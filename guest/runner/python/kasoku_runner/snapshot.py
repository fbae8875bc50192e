"""The runner's part in snapshots: what a function must not keep is withheld, what clones must not share is renewed.

A snapshot is taken while the runner waits for its first frame, and each restored instance gets `restore` as that frame.
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

_withheld: set[str] = set()
_read: set[str] = set()
_generators: list[Any] = []


class _Watched(os._Environ):  # type: ignore[type-arg]
    """The environment while a function initialises: notes whether it looks at what comes only after the restore."""

    def __getitem__(self, key: Any) -> Any:
        if key in _withheld:
            _read.add(key)
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        _read.update(_withheld)
        return super().__iter__()


def withhold(names: Iterable[str]) -> None:
    """From now on it is noted if one of these variables is looked at."""
    _withheld.update(names)
    if _withheld:
        os.environ.__class__ = _Watched


def looked_at() -> list[str]:
    """The withheld variables that the function has looked at."""
    return sorted(_read)


def prepare() -> list[str]:
    """Make the program ready to be saved; the withheld variables that it has looked at (then it must not be used)."""
    if _withheld:
        os.environ.__class__ = os._Environ
    hooks = _hooks("get_before_snapshot")
    while hooks:
        function, arguments, keywords = hooks.pop()
        function(*arguments, **keywords)
    gc.collect()
    # What exists now is not looked at by the collector again: its marks would make private copies of most pages.
    gc.freeze()
    return looked_at()


def rehearse() -> None:
    """What `restored` does, but for what concerns the function."""
    os.environ.update({})
    _renew_randomness()


@contextlib.contextmanager
def noted_pages() -> Iterator[None]:
    """The library OS brings together the memory that is used meanwhile: clones get it in one piece.

    Where it cannot (too little memory is left, or this is no guest), clones only start more slowly.
    """
    try:
        device = os.open("/dev/kasoku/touched", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.write(device, b"note")
        yield
        with contextlib.suppress(OSError):
            os.write(device, b"pack")
    finally:
        os.close(device)


def restored(environment: dict[str, str]) -> None:
    """This is a clone: give it its environment and randomness of its own, then tell the function."""
    os.environ.update(environment)
    _renew_randomness()
    for function, arguments, keywords in _hooks("get_after_restore"):
        function(*arguments, **keywords)


def _hooks(name: str) -> list[Any]:
    module = sys.modules.get("snapshot_restore_py")
    registered: list[Any] = getattr(module, name)() if module else []
    return registered


def find_generators() -> None:
    """Note the random generators that exist, of the standard library and of NumPy."""
    kinds: list[type] = []
    if random := sys.modules.get("random"):
        kinds.append(random.Random)
    if numpy := sys.modules.get("numpy.random"):
        kinds += [numpy.BitGenerator, numpy.RandomState]
    if kinds:
        _generators.extend(found for found in gc.get_objects() if isinstance(found, tuple(kinds)))


def _renew_randomness() -> None:
    """`os.urandom`, and with it `secrets` and `uuid4`, is the library OS's and renewed already."""
    if random := sys.modules.get("random"):
        random.seed()
    for generator in _generators:
        if hasattr(generator, "seed") and not hasattr(generator, "get_state"):
            generator.seed()
        elif hasattr(generator, "get_state"):
            generator.set_state(type(generator)().get_state())
        else:
            generator.state = type(generator)().state
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed()
    if ssl := sys.modules.get("ssl"):
        # OpenSSL's generators notice that the one that they were seeded from has changed.
        ssl.RAND_add(os.urandom(64), 64.0)
