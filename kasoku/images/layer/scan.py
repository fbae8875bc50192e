"""Reads a directory of the host into a tree: names, kinds and modes; contents are read when the image is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from .tree import Directory, File, Node, Symlink, TreeError, show

#: What of a mode is kept. Owners are not, so set-user-id and set-group-id would lie.
MODE_MASK = 0o1777


def scan_directory(
    top: Path, *, skip: Callable[[bytes, os.DirEntry[bytes]], bool] = lambda _path, _entry: False
) -> Directory:
    """Returns the directory as a tree; hard links within it stay hard links, symbolic links are never followed.

    `skip(path below top, entry)` leaves an entry out. Raises TreeError for what an image cannot hold (devices, sockets,
    pipes) and OSError for what cannot be read.
    """
    links: dict[tuple[int, int], File] = {}

    def directory(path: bytes, below: bytes, mode: int) -> Directory:
        children: dict[bytes, Node] = {}
        with os.scandir(path) as entries:
            for entry in entries:
                name = below + entry.name
                if not skip(name, entry):
                    children[entry.name] = node(entry, name)
        return Directory(mode & MODE_MASK, children)

    def node(entry: os.DirEntry[bytes], below: bytes) -> Node:
        status = entry.stat(follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            return directory(entry.path, below + b"/", mode)
        if stat.S_ISLNK(mode):
            return Symlink(os.readlink(entry.path))
        if not stat.S_ISREG(mode):
            kind = "a socket, pipe or device"
            raise TreeError(f"{show(entry.path)} is {kind}: an image holds files, directories and symbolic links")
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and identity in links:
            return links[identity]
        file = File(Path(os.fsdecode(entry.path)), status.st_size, mode & MODE_MASK)
        if status.st_nlink > 1:
            links[identity] = file
        return file

    if not top.is_dir():
        raise TreeError(f"{top} is not a directory")
    return directory(os.fsencode(top), b"", top.stat().st_mode)
