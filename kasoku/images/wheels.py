"""Unpacks wheels into a tree, as an installer would lay them out, running nothing.

A wheel is hostile: nothing of it is written to the host's file system, and no name in it leads out of the tree.
"""

from __future__ import annotations

import configparser
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kasoku.images.errors import ImageError
from kasoku.images.layer import File, Tree, TreeError
from kasoku.images.python_layer import PREFIX, PYTHON_EXECUTABLE, SITE_PACKAGES, VERSION

#: What a layer of wheels may unpack to: far above any real set, far below what fills a disk by surprise.
UNPACKED_MAX = 32 << 30
MEMBERS_MAX = 2_000_000
_TEXT_MAX = 4 << 20
_CHUNK = 1 << 20
_OBJECT = re.compile(r"(?P<module>\w+(\.\w+)*)\s*:\s*(?P<object>\w+(\.\w+)*)\s*(\[.*\])?")
_SCRIPT_NAME = re.compile(r"[\w.-][\w. -]*")


@dataclass(frozen=True)
class _Member:
    """A file in a wheel, unpacked when it is read."""

    wheel: zipfile.ZipFile
    info: zipfile.ZipInfo

    def parts(self) -> Iterator[bytes]:
        try:
            with self.wheel.open(self.info) as stream:
                while data := stream.read(_CHUNK):
                    yield data
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise OSError(f"{self} cannot be unpacked: {error}") from None

    def text(self) -> bytes:
        """Returns all of a small file. Raises TreeError where it is not small."""
        if self.info.file_size > _TEXT_MAX:
            raise TreeError(f"{self} has {self.info.file_size} bytes")
        return b"".join(self.parts())

    def __str__(self) -> str:
        return f"{self.info.filename} in {Path(self.wheel.filename or '').name}"


def unpack_wheels(wheels: Iterable[Path], tree: Tree, open_files: ExitStack) -> None:
    """Adds the wheels to the tree. They must stay open, on `open_files`, until the tree is written.

    Raises ImageError that names the wheel and the member for whatever is wrong.
    """
    unpacked = members = 0
    for path in wheels:
        try:
            wheel = open_files.enter_context(zipfile.ZipFile(path))
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise ImageError(f"{path.name} is not a wheel: {error}") from None
        unpacked += sum(info.file_size for info in wheel.infolist())
        members += len(wheel.infolist())
        if unpacked > UNPACKED_MAX or members > MEMBERS_MAX:
            raise ImageError(
                f"with {path.name} the wheels unpack to more than {UNPACKED_MAX >> 30} GiB or {MEMBERS_MAX} files"
            )
        for info in wheel.infolist():
            if not info.is_dir():
                try:
                    _place(tree, wheel, info)
                except (TreeError, OSError) as error:
                    raise ImageError(f"{path.name}: {error}") from None
        try:
            _entry_points(tree, wheel)
        except (TreeError, OSError) as error:
            raise ImageError(f"{path.name}: {error}") from None


def _place(tree: Tree, wheel: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ".." in parts or any(part.startswith(".wh.") for part in parts):
        raise TreeError(f"a member is named {name!r}")
    # Links in archives are files for every installer; so are they here.
    executable = bool(info.external_attr >> 16 & 0o111)
    file = File(_Member(wheel, info), info.file_size, 0o755 if executable else 0o644)
    if not parts[0].endswith(".data") or len(parts) < 3:
        tree.replace(f"{SITE_PACKAGES}/{name}", file)
        return
    scheme, rest = parts[1], "/".join(parts[2:])
    if scheme == "scripts":
        tree.replace(f"{PREFIX}/bin/{rest}", _script(file))
        return
    distribution = parts[0].removesuffix(".data").split("-")[0]
    homes = {
        "purelib": SITE_PACKAGES,
        "platlib": SITE_PACKAGES,
        "data": PREFIX,
        "headers": f"{PREFIX}/include/{VERSION}/{distribution}",
    }
    if scheme not in homes:
        raise TreeError(f"{name!r} is for an unknown place, {scheme!r}")
    tree.replace(f"{homes[scheme]}/{rest}", file)


def _script(file: File) -> File:
    """Points a script at the image's interpreter; binary programs stay as they are."""
    assert isinstance(file.source, _Member)
    first = next(file.source.parts(), b"")
    if not first.startswith(b"#!python"):
        return File(file.source, file.size, 0o755)
    _, _, rest = file.source.text().partition(b"\n")
    content = f"#!{PYTHON_EXECUTABLE}\n".encode() + rest
    return File(content, len(content), 0o755)


def _entry_points(tree: Tree, wheel: zipfile.ZipFile) -> None:
    """Makes the programs that the wheel's metadata asks for."""
    names = [name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", name)]
    for name in names:
        text = _Member(wheel, wheel.getinfo(name)).text().decode(errors="replace")
        parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        try:
            parser.read_string(text)
            programs = dict(parser["console_scripts"]) if parser.has_section("console_scripts") else {}
        except configparser.Error as error:
            raise TreeError(f"{name} is malformed: {error}") from None
        for program, reference in programs.items():
            match = _OBJECT.fullmatch(reference.strip())
            if match is None or not _SCRIPT_NAME.fullmatch(program):
                raise TreeError(f"{name} has the malformed line {program!r} = {reference!r}")
            top = match["object"].split(".")[0]
            lines = ["import sys", f"from {match['module']} import {top}", f"sys.exit({match['object']}())", ""]
            script = "\n".join([f"#!{PYTHON_EXECUTABLE}", *lines]).encode()
            tree.replace(f"{PREFIX}/bin/{program}", File(script, len(script), 0o755))
