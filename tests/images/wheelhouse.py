"""Makes wheels, well-formed and hostile, and lets pip see these alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    files: Mapping[str, bytes | str],
    *,
    version: str = "1.0",
    requires: tuple[str, ...] = (),
    entry_points: str = "",
) -> Path:
    """Writes a wheel with the given members beside its metadata; contents that begin with `#!` are executable."""
    info = f"{name}-{version}.dist-info"
    members: dict[str, bytes | str] = dict(files)
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {requirement}\n" for requirement in requires
    )
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if entry_points:
        members[f"{info}/entry_points.txt"] = entry_points
    members[f"{info}/RECORD"] = ""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (0o100755 if data.startswith(b"#!") else 0o100644) << 16
            wheel.writestr(entry, data)
    return path
