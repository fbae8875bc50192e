"""Reads requirements and fetches wheels for them. Tenants write requirements, so what one may say is narrowed here."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from kasoku.images.errors import ImageError

_FETCHER = Path(__file__).with_name("fetcher.py")
_HASH = re.compile(r"\s--hash=(sha(?:256|384|512):[0-9a-f]+)(?=\s|$)")
_COMMENT = re.compile(r"(^|\s)#.*$")
_FILE_SIZE_MAX = 1 << 20


def read_requirements(file: Path) -> list[str]:
    """Reads a requirements.txt. Raises ImageError with the file and line for what is not accepted."""
    try:
        if file.stat().st_size > _FILE_SIZE_MAX:
            raise ImageError(f"{file} has more than {_FILE_SIZE_MAX} bytes: that is no list of requirements")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"requirements file {file} cannot be read: {error}") from None
    result = []
    for number, line in enumerate(text.replace("\\\n", " ").splitlines(), 1):
        line = _COMMENT.sub("", line).strip()
        if line:
            try:
                result.append(normalise(line))
            except ImageError as error:
                raise ImageError(f"{file}, line {number}: {error}") from None
    return result


def normalise(line: str) -> str:
    """Returns one requirement in its usual form. Raises ImageError unless it is a name with versions, markers and
    hashes.

    Paths, URLs and repositories are refused, because pip would build what it finds there; options are, because they
    would let a function choose which files and servers this machine reads (they belong into pip's own configuration).
    """
    hashes = sorted(_HASH.findall(line))
    text = _HASH.sub("", line).strip()
    if text.startswith("-"):
        raise ImageError(f"{line!r} is an option; only requirements are accepted (configure indexes with `pip config`)")
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ImageError(f"{line!r} is not a requirement such as `numpy>=2`; paths are not accepted") from None
    if requirement.url is not None:
        raise ImageError(f"{line!r} names a URL; only wheels of an index are accepted")
    return " ".join([str(requirement), *(f"--hash={value}" for value in hashes)])


def fetch_wheels(requirements: Sequence[str], folder: Path) -> list[Path]:
    """Resolves the requirements and their dependencies and puts their wheels into an empty folder; returns them by
    name.

    Raises ImageError with what pip said.
    """
    wheels = folder / "wheels"
    wheels.mkdir()
    listing = folder / "requirements.txt"
    listing.write_text("".join(f"{normalise(line)}\n" for line in requirements))
    command = [sys.executable, "-I", str(_FETCHER), "--disable-pip-version-check", "--no-input", "--quiet", "download"]
    command += ["--only-binary=:all:", "--dest", str(wheels), "--requirement", str(listing)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=folder)
    if done.returncode != 0:
        raise ImageError(f"pip found no wheels for these requirements: {_reason(done.stderr)}")
    found = sorted(wheels.iterdir())
    strange = [path.name for path in found if path.suffix != ".whl" or not path.is_file()]
    if strange:
        raise ImageError(f"pip fetched {', '.join(strange)}: only wheels are accepted")
    return found


def wheels_key(wheels: Iterable[Path]) -> str:
    """Names a set of wheels by their names and contents."""
    total = hashlib.sha256()
    for wheel in wheels:
        with wheel.open("rb") as file:
            total.update(f"{wheel.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _reason(output: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    tail = errors or [line for line in output.splitlines() if line.strip()][-3:] or ["it gave no reason"]
    return "; ".join(tail)
