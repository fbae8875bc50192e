"""A root file system in memory, as the kernel unpacks it: a cpio archive in the format "newc"."""

from __future__ import annotations

import stat
from pathlib import Path

from kasoku.images.elf import NotElf, read_elf
from kasoku.images.libraries import closure


class Initramfs:
    """Collects files. Directories appear by themselves."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes | Path]] = {}

    def write(self, place: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file of these bytes."""
        self._add(place, stat.S_IFREG | mode, data)

    def link(self, place: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(place, stat.S_IFLNK | 0o777, target.encode())

    def copy(self, source: Path, place: str) -> None:
        """Add a file of this machine."""
        self._add(place, stat.S_IFREG | stat.S_IMODE(source.stat().st_mode), source)

    def program(self, source: Path, place: str) -> None:
        """Add a program and, at their own places, its interpreter and the libraries that it names."""
        self.copy(source, place)
        try:
            interpreter = read_elf(source).interpreter
        except NotElf:
            return
        libraries, missing = closure([source])
        assert not missing, f"{source} needs {missing}, which this machine does not have"
        for path in libraries.values():
            self.copy(path, str(path))
        if interpreter:
            self.copy(Path(interpreter), interpreter)

    def _add(self, place: str, mode: int, content: bytes | Path) -> None:
        place = place.strip("/")
        for parent in reversed(Path(place).parents[:-1]):
            self._entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        self._entries[place] = (mode, content)

    def save(self, path: Path) -> None:
        """Write the archive."""
        with path.open("wb") as file:
            for number, (name, (mode, content)) in enumerate([*self._entries.items(), ("TRAILER!!!", (0, b""))]):
                data = content.read_bytes() if isinstance(content, Path) else content
                fields = [number + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
                head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
                file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))
