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
    # Not `update`: it first asks abstract classes what it was given, which takes longer than what is to be done.
    for name, value in environment.items():
        os.environ[name] = value
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
        found = [found for found in gc.get_objects() if isinstance(found, tuple(kinds))]
        # What one of NumPy's older sort draws from is renewed with it, and need not be once more.
        _generators.extend(sorted(found, key=lambda generator: not hasattr(generator, "get_state")))


def _renew_randomness() -> None:
    """`os.urandom`, and with it `secrets` and `uuid4`, is the library OS's and renewed already."""
    renewed: set[int] = set()
    for generator in _generators:
        if id(generator) in renewed:
            continue
        renewed.add(id(generator))
        if hasattr(generator, "get_state"):
            source = generator._bit_generator
            renewed.add(id(source))
            # A state without a kept normal value drops the one that is kept.
            generator.set_state(type(source)().state)
        elif hasattr(generator, "seed"):
            generator.seed()
        else:
            generator.state = type(generator)().state
    # Those of the modules themselves, where they were imported later.
    if (random := sys.modules.get("random")) and _owner(random.seed) not in renewed:
        random.seed()
    if (numpy := sys.modules.get("numpy.random")) and _owner(numpy.rand) not in renewed:
        numpy.seed()
    if ssl := sys.modules.get("ssl"):
        # OpenSSL's generators notice that the one that they were seeded from has changed.
        ssl.RAND_add(os.urandom(64), 64.0)


def _owner(method: Any) -> int:
    """Of a module's function that is a method of an object: that object's identity."""
    return id(getattr(method, "__self__", None))
