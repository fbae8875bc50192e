"""The tracked files of the repository."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def tracked() -> tuple[str, ...]:
    """Paths of all files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        # An archive without .git: what lies in the folders of the product.
        folders = ("abi", "guest", "host", "kasoku", "tests", "benchmarks", "tools", "examples", "docs")
        files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
        return tuple(
            str(p.relative_to(ROOT)) for p in files if "_native" not in p.parts and "__pycache__" not in p.parts
        )
    return tuple(name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file())


def sources(*suffixes: str, under: str = "") -> list[str]:
    """The tracked files with one of the suffixes, below a folder."""
    return [name for name in tracked() if name.endswith(suffixes) and name.startswith(under)]


def text(name: str) -> str:
    """The content of a tracked file."""
    return (ROOT / name).read_text(encoding="utf-8")
