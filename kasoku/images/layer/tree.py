"""A file tree in memory: what an image is made from. Contents stay where they are until the image is written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .erofs import NAME_MAX

#: The longest target of a symbolic link, as in Linux.
TARGET_MAX = 4095


class TreeError(ValueError):
    """A tree that cannot be: a name that Linux does not allow, or two things in one place."""


class Content(Protocol):
    """Content that is neither in memory nor a file of its own, such as the member of an archive."""

    def parts(self) -> Iterator[bytes]:
        """Yields it from its beginning; called from several threads. Raises OSError where it cannot be had."""


@dataclass(eq=False)
class File:
    """A regular file. `source` is its content or the host file that has it; one object at two places is a hard link."""

    source: bytes | Path | Content
    size: int
    mode: int = 0o644

    def read(self) -> bytes:
        """Returns the whole content. Raises OSError."""
        if isinstance(self.source, bytes):
            return self.source
        if isinstance(self.source, Path):
            return self.source.read_bytes()
        return b"".join(self.source.parts())


@dataclass(eq=False)
class Symlink:
    """A symbolic link; the target is never resolved here."""

    target: bytes


@dataclass(eq=False)
class Directory:
    """A directory; names map to nodes in no order."""

    mode: int = 0o755
    children: dict[bytes, Node] = field(default_factory=dict)


Node = File | Symlink | Directory


class Tree:
    """Builds a tree by absolute guest paths. Missing parents are made; a directory may be named more than once."""

    def __init__(self) -> None:
        self.root = Directory()

    def directory(self, path: str | bytes, mode: int | None = None) -> Directory:
        """Makes the directory and its parents; sets its mode where one is given.

        Raises TreeError where something else is in the way.
        """
        node = self.root
        for name in split(path):
            child = node.children.setdefault(name, Directory())
            if not isinstance(child, Directory):
                raise TreeError(f"{show(path)}: {show(name)} is not a directory in this tree")
            node = child
        if mode is not None:
            node.mode = mode
        return node

    def file(self, path: str | bytes, source: bytes | Path, mode: int = 0o644) -> File:
        """Adds a regular file with the given content, or with that of a host file."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        node = File(source, size, mode)
        self.add(path, node)
        return node

    def symlink(self, path: str | bytes, target: str | bytes) -> None:
        """Adds a symbolic link."""
        raw = os.fsencode(target)
        if not 0 < len(raw) <= TARGET_MAX or b"\0" in raw:
            raise TreeError(f"{show(path)}: the target of a symbolic link has 1 to {TARGET_MAX} bytes and no NUL")
        self.add(path, Symlink(raw))

    def add(self, path: str | bytes, node: File | Symlink) -> None:
        """Puts a node into its place. Raises TreeError where the place is taken."""
        *parents, name = split(path) or [b""]
        if not name:
            raise TreeError("the root of a tree is a directory")
        directory = self.directory(b"/".join(parents))
        if name in directory.children:
            raise TreeError(f"{show(path)} is there twice")
        directory.children[name] = node

    def replace(self, path: str | bytes, node: File | Symlink) -> None:
        """Puts a node into its place, whatever file or link was there. Raises TreeError where a directory is."""
        old = self.get(path)
        if isinstance(old, Directory):
            raise TreeError(f"{show(path)} is a directory in this tree")
        if old is not None:
            *parents, name = split(path)
            del self.directory(b"/".join(parents)).children[name]
        self.add(path, node)

    def get(self, path: str | bytes) -> Node | None:
        """Returns what is at a path; symbolic links are not followed."""
        node: Node = self.root
        for name in split(path):
            if not isinstance(node, Directory) or name not in node.children:
                return None
            node = node.children[name]
        return node

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Yields (path without a leading slash, node), parents first, in the order of names; without the root."""
        stack: list[tuple[bytes, Node]] = [(b"", self.root)]
        while stack:
            path, node = stack.pop()
            if path:
                yield path, node
            if isinstance(node, Directory):
                prefix = path + b"/" if path else b""
                stack.extend((prefix + name, node.children[name]) for name in sorted(node.children, reverse=True))


def fingerprint(tree: Tree, salt: str) -> str:
    """Names what a tree would become without reading host files: those are taken to change with their size or time."""
    total = hashlib.sha256(salt.encode())
    for path, node in tree.walk():
        if isinstance(node, File):
            if isinstance(node.source, Path):
                status = node.source.stat()
                what = f"{node.source} {status.st_size} {status.st_mtime_ns} {status.st_ino}".encode()
            else:
                what = hashlib.sha256(node.read()).digest()
            what += b" %o" % node.mode
        else:
            what = node.target if isinstance(node, Symlink) else b"%o" % node.mode
        total.update(b"%d %d " % (len(path), len(what)) + path + what)
    return total.hexdigest()


def split(path: str | bytes) -> list[bytes]:
    """Cuts a path into its names. Raises TreeError for names that cannot be: "..", NUL, more than 255 bytes."""
    names = [name for name in os.fsencode(path).split(b"/") if name not in (b"", b".")]
    for name in names:
        if name == b".." or b"\0" in name or len(name) > NAME_MAX:
            raise TreeError(f"{show(path)}: {show(name)} cannot be the name of a file")
    return names


def show(path: str | bytes) -> str:
    """Renders a path for a message, whatever bytes it has."""
    text = repr(os.fsdecode(path))[1:-1]
    return text if len(text) <= 200 else f"{text[:200]}..."
