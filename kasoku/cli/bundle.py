"""A function file and what it needs beside it, as a zip."""

import ast
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from kasoku.sdk.errors import KasokuError
from kasoku.sdk.source import parse_file

_DATE = (1980, 1, 1, 0, 0, 0)
_SKIPPED = {"__pycache__", ".git", ".venv", "node_modules"}


def bundle(file: Path, includes: Iterable[Path]) -> bytes:
    """The file, the modules beside it that it imports, and `includes`. Equal files give equal bytes."""
    root = file.parent
    chosen = {path.relative_to(root).as_posix(): path for path in [file, *_local_imports(file, root)]}
    for include in includes:
        for path in _files(include):
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else _outside(path, include)
            chosen[name] = path
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(chosen.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = (0o100755 if path.stat().st_mode & 0o100 else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    return buffer.getvalue()


def _outside(path: Path, include: Path) -> str:
    return path.relative_to(include.parent).as_posix()


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise KasokuError(f"--include {path}: no such file or directory")
    if path.is_file():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.name not in _SKIPPED and not child.is_symlink():
            yield from _files(child)


def _local_imports(file: Path, root: Path) -> list[Path]:
    """Modules and packages beside the file that it imports, and theirs; found in the syntax, nothing is run."""
    found: dict[Path, None] = {}
    queue = [file]
    while queue:
        for name in _imported(queue.pop()):
            module, package = root / f"{name}.py", root / name
            new = [module] if module.is_file() else []
            if (package / "__init__.py").is_file():
                new += _files(package)
            for path in new:
                if path not in found and path != file:
                    found[path] = None
                    if path.suffix == ".py":
                        queue.append(path)
    return list(found)


def _imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(parse_file(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - {"kasoku"}
