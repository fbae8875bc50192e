"""Reads what an ELF file says it needs, and no more of the format than that. The file is not trusted."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_X86_64 = 62
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
#: No honest file has more; a length field may say anything.
_MOST = 16 << 20


class NotElf(ValueError):
    """The file is not an ELF file for x86-64."""


@dataclass(frozen=True)
class Elf:
    """What the dynamic loader would read: names of libraries, where to look for them first, the loader's own path."""

    needed: tuple[str, ...]
    search: tuple[str, ...]
    interpreter: str | None


def read_elf(path: Path) -> Elf:
    """Reads one file. Raises NotElf for anything else than a well-formed 64-bit x86 ELF file, and OSError."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:6] != b"\x7fELF\x02\x01":
            raise NotElf(f"{path} is not a 64-bit ELF file")
        _, _, machine, _, _, table, _, _, _, entry_size, count, _, _, _ = _HEADER.unpack(head)
        if machine != _X86_64 or (count and entry_size != _SEGMENT.size):
            raise NotElf(f"{path} is not for x86-64")

        def at(offset: int, length: int) -> bytes:
            if offset < 0 or length > _MOST:
                raise NotElf(f"{path} is malformed")
            file.seek(offset)
            data = file.read(length)
            if len(data) != length:
                raise NotElf(f"{path} is cut short")
            return data

        segments = [*_SEGMENT.iter_unpack(at(table, count * _SEGMENT.size))]
        interpreter = None
        dynamic: list[tuple[int, int]] = []
        for kind, _, offset, _, _, size, _, _ in segments:
            if kind == _PT_INTERP:
                interpreter = at(offset, size).rstrip(b"\0").decode(errors="replace")
            elif kind == _PT_DYNAMIC:
                dynamic = [*_DYNAMIC.iter_unpack(at(offset, size - size % _DYNAMIC.size))]
        values = dict(dynamic)
        if _DT_STRTAB not in values:
            return Elf((), (), interpreter)
        names = at(_file_offset(segments, values[_DT_STRTAB], path), values.get(_DT_STRSZ, 0))

    def name(offset: int) -> str:
        end = names.find(b"\0", offset)
        if not 0 <= offset < len(names) or end < 0:
            raise NotElf(f"{path} has a name outside its string table")
        return names[offset:end].decode(errors="replace")

    needed = tuple(name(value) for tag, value in dynamic if tag == _DT_NEEDED)
    tag = _DT_RUNPATH if _DT_RUNPATH in values else _DT_RPATH
    search = tuple(part for part in name(values[tag]).split(":") if part) if tag in values else ()
    return Elf(needed, search, interpreter)


def _file_offset(segments: list[tuple[int, ...]], address: int, path: Path) -> int:
    for kind, _, offset, virtual, _, size, _, _ in segments:
        if kind == _PT_LOAD and virtual <= address < virtual + size:
            return offset + address - virtual
    raise NotElf(f"{path} has a dynamic table outside its segments")
