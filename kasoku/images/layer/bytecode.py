"""Adds byte code to a tree, so that no guest compiles what it imports.

The `.pyc` are of the unchecked-hash kind (PEP 552): the interpreter takes them without a look at the source, whose time
in an image says nothing. What `marshal` writes depends on which strings happen to be shared in the process that calls
it, so the compiling is done by fresh processes that do nothing else: the same tree gives the same bytes. Compiling
executes nothing.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .tree import Directory, File, show

_WORKER = Path(__file__).with_name("compiler.py")
_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
#: Sources per process: fixed, because the division into processes may show in the bytes.
_SHARE = 400


class BytecodeError(RuntimeError):
    """The compiling process ended early."""


@dataclass(frozen=True)
class _Source:
    path: bytes
    directory: Directory
    name: bytes
    file: File


def add_bytecode(directory: Directory, path: bytes) -> None:
    """Adds a `.pyc` of the running interpreter for every `.py` below a directory that lies at the guest `path`.

    Sources that do not compile stay as they are: packages ship templates and code for other versions. Raises
    BytecodeError.
    """
    sources = list(_sources(directory, path.rstrip(b"/")))
    shares = [sources[start : start + _SHARE] for start in range(0, len(sources), _SHARE)]
    waiting = iter(shares)
    lock = threading.Lock()
    failures: list[Exception] = []

    def work() -> None:
        try:
            while True:
                with lock:
                    share = next(waiting, None)
                if share is None:
                    return
                _compile(share)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(min(len(shares), os.cpu_count() or 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _sources(directory: Directory, path: bytes) -> Iterator[_Source]:
    for name in sorted(directory.children):
        child = directory.children[name]
        if isinstance(child, Directory) and name != b"__pycache__":
            yield from _sources(child, path + b"/" + name)
        elif isinstance(child, File) and name.endswith(b".py"):
            yield _Source(path + b"/" + name, directory, name, child)


def _compile(share: list[_Source]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-S", "-P", "-B", "-W", "ignore", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
    )
    assert process.stdin and process.stdout
    with process:
        for source in share:
            text = source.file.read()
            try:
                process.stdin.write(_FRAME.pack(len(source.path), len(text)) + source.path + text)
                process.stdin.flush()
                (length,) = _LENGTH.unpack(process.stdout.read(_LENGTH.size))
            except (BrokenPipeError, struct.error):
                raise BytecodeError(f"the compiling process ended at {show(source.path)}") from None
            code = process.stdout.read(length)
            if code:
                _put(source, code)
        process.stdin.close()


def _put(source: _Source, code: bytes) -> None:
    cache = source.directory.children.setdefault(b"__pycache__", Directory())
    if isinstance(cache, Directory):
        tag = os.fsencode(sys.implementation.cache_tag)
        cache.children[source.name[:-3] + b"." + tag + b".pyc"] = File(code, len(code), 0o644)
