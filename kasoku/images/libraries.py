"""Finds the shared libraries that programs and extension modules of this machine would load, executing nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kasoku.images.elf import Elf, NotElf, read_elf

_CACHE = Path("/etc/ld.so.cache")
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_CACHE_HEADER = struct.Struct("<20sIIB3xI12x")
_CACHE_ENTRY = struct.Struct("<iIIIQ")
#: Flags of a cache entry: an ELF library for x86-64 (FLAG_X8664_LIB64 | FLAG_ELF_LIBC6).
_CACHE_X86_64 = 0x0303
_DEFAULT_FOLDERS = ("/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib")


def closure(files: Iterable[Path], extra: Iterable[str] = ()) -> tuple[dict[str, Path], set[str]]:
    """Resolves all that the files need, and what that needs, and the libraries named in `extra` where they exist.

    Returns (name as it is asked for -> file, names that were not found). A file that is not ELF needs nothing.
    """
    found: dict[str, Path] = {}
    missing: set[str] = set()
    queue: list[Path] = list(files)
    for name in extra:
        path = _look_up(name, ())
        if path is not None:
            found[name] = path
            queue.append(path)
    inherited: dict[Path, tuple[str, ...]] = {}
    for path in queue:
        elf = _elf(path.resolve())
        if elf is None:
            continue
        # Both forms of run path are handed down; DT_RUNPATH strictly is not, but a library that is found too often is
        # harmless.
        search = tuple(_expand(part, path) for part in elf.search) + inherited.get(path, ())
        for name in elf.needed:
            if name in found or "/" in name:
                continue
            library = _look_up(name, search)
            if library is None:
                missing.add(name)
                continue
            found[name] = library
            inherited[library] = search
            queue.append(library)
    return found, missing - found.keys()


def _look_up(name: str, search: tuple[str, ...]) -> Path | None:
    cached = _ld_cache().get(name)
    for folder in search:
        if _usable(candidate := Path(folder) / name):
            return candidate
    if cached and _usable(Path(cached)):
        return Path(cached)
    for folder in _DEFAULT_FOLDERS:
        if _usable(candidate := Path(folder) / name):
            return candidate
    return None


def _usable(path: Path) -> bool:
    try:
        return path.is_file() and _elf(path.resolve()) is not None
    except OSError:
        return False


@cache
def _elf(path: Path) -> Elf | None:
    try:
        return read_elf(path)
    except (NotElf, OSError):
        return None


def _expand(part: str, path: Path) -> str:
    origin = str(path.resolve().parent)
    return part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)


@cache
def _ld_cache() -> dict[str, str]:
    """Returns the loader's own index, name to path; empty where there is none or it has another form."""
    try:
        data = _CACHE.read_bytes()
    except OSError:
        return {}
    start = data.find(_CACHE_MAGIC)
    if start < 0 or len(data) < start + _CACHE_HEADER.size:
        return {}
    _, count, _, _, _ = _CACHE_HEADER.unpack_from(data, start)
    result: dict[str, str] = {}
    first = start + _CACHE_HEADER.size
    if first + count * _CACHE_ENTRY.size > len(data):
        return {}
    for index in range(count):
        flags, key, value, _, hardware = _CACHE_ENTRY.unpack_from(data, first + index * _CACHE_ENTRY.size)
        # Entries for particular processors come before the plain one; a guest may be restored on another machine.
        if flags == _CACHE_X86_64 and hardware == 0:
            result.setdefault(_string(data, start + key), _string(data, start + value))
    return result


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.find(b"\0", offset)].decode(errors="replace")
