"""The machine's own Python, moved into a layer and run from there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kasoku.images.libraries import closure
from kasoku.images.python_layer import PREFIX, STDLIB, VERSION
from kasoku.images.store import ImageStore

from .extract import extract, needs_fsck

PROGRAM = """
import json, sys, ssl, sqlite3, ctypes, hashlib, asyncio, decimal, zlib, bz2, lzma, subprocess, concurrent.futures
print(json.dumps({"prefix": sys.prefix, "path": sys.path, "cached": json.__cached__, "version": sys.version}))
"""


@needs_fsck
def test_interpreter_runs_from_its_layer_with_no_file_of_the_host(store: ImageStore, tmp_path: Path) -> None:
    layer = store.ensure_python_layer()
    root = extract(store.layer_path(layer.digest), tmp_path / "root")
    python = root / PREFIX[1:] / "bin" / VERSION
    libraries = next(root.glob("usr/lib*/**/libc.so.6")).parent
    loader = next(libraries.glob("ld-linux*"))
    command = [str(loader), "--inhibit-cache", "--library-path", str(libraries), str(python), "-I", "-v", "-c", PROGRAM]
    environment = {"PYTHONHOME": str(root / PREFIX[1:])}
    command.remove("-I")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert seen["version"] == sys.version
    assert all(str(root) in entry for entry in seen["path"] if entry)
    assert f"{STDLIB}/json/__pycache__" in seen["cached"]
    # Byte code was taken as it lies in the layer: nothing was compiled, no time compared.
    assert "code object from" in done.stderr
    assert "# wrote" not in done.stderr
    for line in done.stderr.splitlines():
        assert not line.startswith("# code object from") or line.endswith(".pyc'"), line


@needs_fsck
def test_layer_has_what_programs_open_without_being_asked(store: ImageStore, tmp_path: Path) -> None:
    root = extract(store.layer_path(store.ensure_python_layer().digest), tmp_path / "root")
    assert (root / "lib").is_symlink()
    assert (root / "usr/bin/sh").is_file()
    assert (root / "etc/passwd").read_text().startswith("root:")
    assert (root / "tmp").stat().st_mode & 0o1777 == 0o1777
    assert not list(root.rglob("test_*.py"))
    assert not list((root / STDLIB[1:] / "site-packages").iterdir())
    for link in root.rglob("*"):
        assert not link.is_symlink() or not str(link.readlink()).startswith(str(Path.home())), link


def test_layer_is_built_once_and_is_the_same_everywhere(store: ImageStore, tmp_path: Path) -> None:
    first = store.ensure_python_layer()
    path = store.layer_path(first.digest)
    written = path.stat().st_ino
    assert ImageStore(tmp_path / "home").ensure_python_layer() == first
    assert path.stat().st_ino == written
    assert ImageStore(tmp_path / "other").ensure_python_layer() == first


def test_closure_names_what_is_missing_and_survives_what_is_no_elf(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 500)
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    found, missing = closure([broken, text, Path(sys.executable)], ["libc.so.6", "libno-such-library.so.9"])
    assert "libc.so.6" in found
    assert not missing
