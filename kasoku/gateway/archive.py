"""Unpacking a function's code: a zip file from a client, which may be made to hurt."""

import io
import stat
import zipfile
from pathlib import Path, PurePosixPath

from kasoku.node.errors import PlatformError

MAX_FILES = 20_000
MAX_BYTES = 256 << 20
_CHUNK = 1 << 20


def unpack(data: bytes, target: Path) -> None:
    """Write the files of a zip under `target`. Raises PlatformError unless it is a plain tree within limits."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES:
                raise _invalid(f"it holds more than {MAX_FILES} files")
            left = MAX_BYTES
            for member in members:
                left -= _extract(archive, member, target, left)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _invalid(str(error)) from None


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int) -> int:
    path = target / _safe(member.filename)
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    mode = member.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise _invalid(f"{member.filename!r} is not a plain file")
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        # "x": a second member of the same name would replace what was checked before.
        with archive.open(member) as source, path.open("xb") as file:
            # The announced size may lie: what counts is what comes out.
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > left:
                    raise _invalid(f"it unpacks to more than {MAX_BYTES} bytes")
                file.write(chunk)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise _invalid(f"{member.filename!r} is in it twice") from None
    path.chmod(0o755 if mode & 0o111 else 0o644)
    return written


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or len(name) > 1024:
        raise _invalid(f"{name[:200]!r} is not a relative path within it")
    if any(len(part.encode(errors="surrogateescape")) > 255 or part.startswith(".wh.") for part in path.parts):
        raise _invalid(f"{name[:200]!r} has a part that no file may be called")
    return path


def _invalid(reason: str) -> PlatformError:
    return PlatformError("InvalidZipFileException", f"the code is not a usable zip file: {reason}")
