"""Lays a tree out as an EROFS image and writes it.

    block 0          superblock
    then             inodes, 32 bytes each; those of one directory side by side; short link targets behind their inode
    then             directory blocks
    then             file contents, each begun at a block, contiguous, never inside an inode's block

Files of 2 MiB and more begin at 2 MiB boundaries, so that a guest can map a library with large pages, and smaller files
fill the gaps before them. The whole is padded to 2 MiB: a memory slot and a large page end where the file does. The
same tree gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import erofs
from .tree import Content, Directory, File, Node, Symlink, Tree, show

LARGE_PAGE = 2 << 20
_BLOCKS_PER_LARGE_PAGE = LARGE_PAGE // erofs.BLOCK
#: Root's number is 16 bits wide and it is the first inode, in block 1.
_FIRST_INODE = erofs.BLOCK
_COPY_CHUNK = 1 << 30


class WriteError(OSError):
    """A source file changed, or went away, while the image was being written."""


@dataclass(eq=False)
class _Inode:
    node: Node
    number: int
    nid: int
    links: int
    parent: _Inode | None = None
    layout: int = erofs.LAYOUT_PLAIN
    size: int = 0
    block: int = 0
    data: bytes = b""


def write_image(tree: Tree, target: Path) -> None:
    """Writes the image to a new file, or over an old one. Raises WriteError and OSError."""
    inodes = _number(tree.root)
    table_end = _place_inodes(inodes)
    block = _blocks(table_end)
    by_node = {id(inode.node): inode for inode in inodes}
    for inode in inodes:
        if inode.layout == erofs.LAYOUT_PLAIN and not isinstance(inode.node, File):
            if isinstance(inode.node, Directory):
                inode.data = _directory_data(inode, by_node)
                inode.size = len(inode.data)
            inode.block = block
            block += _blocks(inode.size)
    files = [inode for inode in inodes if isinstance(inode.node, File)]
    end = _place_files(files, block)
    total = -(-end // _BLOCKS_PER_LARGE_PAGE) * _BLOCKS_PER_LARGE_PAGE
    table = _inode_table(inodes, table_end)
    uuid = hashlib.sha256(table).digest()[:16]
    head = erofs.superblock(root_nid=inodes[0].nid, inodes=len(inodes), blocks=total, uuid=uuid)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(descriptor, total * erofs.BLOCK)
        _write_all(descriptor, head + table, 0)
        for inode in inodes:
            if inode.layout == erofs.LAYOUT_PLAIN and not isinstance(inode.node, File):
                _write_all(descriptor, inode.data, inode.block * erofs.BLOCK)
        _write_files(descriptor, files)
    finally:
        os.close(descriptor)


def settle(image: Path) -> None:
    """Sees to it that an image is on the disk and out of the page cache.

    The kernel then reads it again with large pages, which a page cache that was filled by writing does not have.
    """
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _number(root: Directory) -> list[_Inode]:
    """Lists every node once, directory by directory (breadth first), and counts its links."""
    inodes = [_Inode(root, 1, 0, 2)]
    seen = {id(root): inodes[0]}
    queue = [root]
    for directory in queue:
        for name in sorted(directory.children):
            node = directory.children[name]
            if id(node) in seen:
                seen[id(node)].links += 1
                continue
            inode = _Inode(node, len(inodes) + 1, 0, 1)
            seen[id(node)] = inode
            inodes.append(inode)
            if isinstance(node, Directory):
                inode.links = 2
                inode.parent = seen[id(directory)]
                seen[id(directory)].links += 1
                queue.append(node)
    return inodes


def _place_inodes(inodes: list[_Inode]) -> int:
    """Gives each inode its place; returns where the table ends. No inode, and no target behind one, crosses a block."""
    offset = _FIRST_INODE
    for inode in inodes:
        if isinstance(inode.node, File):
            inode.size = inode.node.size
        tail = b""
        if isinstance(inode.node, Symlink):
            inode.size = len(inode.node.target)
            inode.data = inode.node.target
            if erofs.COMPACT_INODE + inode.size <= erofs.BLOCK:
                inode.layout = erofs.LAYOUT_INLINE
                tail = inode.data
        extended = erofs.needs_extended(size=inode.size, links=inode.links)
        length = (erofs.EXTENDED_INODE if extended else erofs.COMPACT_INODE) + len(tail)
        if offset % erofs.BLOCK + length > erofs.BLOCK:
            offset = _blocks(offset) * erofs.BLOCK
        inode.nid = offset // erofs.SLOT
        offset += -(-length // erofs.SLOT) * erofs.SLOT
    return offset


def _place_files(files: list[_Inode], block: int) -> int:
    """Gives each file its blocks; returns the first block after them."""
    large = [file for file in files if file.size >= LARGE_PAGE]
    small = iter([file for file in files if 0 < file.size < LARGE_PAGE])
    waiting = next(small, None)
    for file in large:
        boundary = -(-block // _BLOCKS_PER_LARGE_PAGE) * _BLOCKS_PER_LARGE_PAGE
        while waiting is not None and block + _blocks(waiting.size) <= boundary:
            waiting.block = block
            block += _blocks(waiting.size)
            waiting = next(small, None)
        file.block = boundary
        block = boundary + _blocks(file.size)
    while waiting is not None:
        waiting.block = block
        block += _blocks(waiting.size)
        waiting = next(small, None)
    return block


def _directory_data(inode: _Inode, by_node: dict[int, _Inode]) -> bytes:
    """Packs a directory: in each block the entries, then their names; names ascend by their bytes across all blocks."""
    node = inode.node
    assert isinstance(node, Directory)
    parent = inode.parent or inode
    entries = [(b".", inode.nid, erofs.TYPE_DIRECTORY), (b"..", parent.nid, erofs.TYPE_DIRECTORY)]
    for name, child in node.children.items():
        kind = erofs.TYPE_DIRECTORY if isinstance(child, Directory) else erofs.TYPE_FILE
        if isinstance(child, Symlink):
            kind = erofs.TYPE_SYMLINK
        entries.append((name, by_node[id(child)].nid, kind))
    entries.sort()
    blocks = [_directory_block(group) for group in _fill_blocks(entries)]
    return b"".join(block.ljust(erofs.BLOCK, b"\0") for block in blocks[:-1]) + blocks[-1]


def _fill_blocks(entries: list[tuple[bytes, int, int]]) -> Iterator[list[tuple[bytes, int, int]]]:
    group: list[tuple[bytes, int, int]] = []
    used = 0
    for entry in entries:
        length = erofs.DIRENT.size + len(entry[0])
        if used + length > erofs.BLOCK:
            yield group
            group, used = [], 0
        group.append(entry)
        used += length
    yield group


def _directory_block(entries: list[tuple[bytes, int, int]]) -> bytes:
    names = b"".join(name for name, _, _ in entries)
    offset = erofs.DIRENT.size * len(entries)
    records = []
    for name, nid, kind in entries:
        records.append(erofs.DIRENT.pack(nid, offset, kind, 0))
        offset += len(name)
    return b"".join(records) + names


def _inode_table(inodes: list[_Inode], end: int) -> bytes:
    table = bytearray(_blocks(end) * erofs.BLOCK - _FIRST_INODE)
    for inode in inodes:
        record = erofs.inode(
            layout=inode.layout,
            mode=_mode(inode.node),
            links=inode.links,
            size=inode.size,
            block=inode.block,
            number=inode.number,
        )
        if inode.layout == erofs.LAYOUT_INLINE:
            record += inode.data
        start = inode.nid * erofs.SLOT - _FIRST_INODE
        table[start : start + len(record)] = record
    return bytes(table)


def _mode(node: Node) -> int:
    if isinstance(node, Symlink):
        return stat.S_IFLNK | 0o777
    return (stat.S_IFDIR if isinstance(node, Directory) else stat.S_IFREG) | node.mode


def _write_files(descriptor: int, files: list[_Inode]) -> None:
    """Writes all contents, in the order they lie in. What has to be decompressed first is shared among all cores."""
    in_order = sorted(files, key=lambda file: file.block)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        streamed = []
        for file in in_order:
            if isinstance(file.node, File) and isinstance(file.node.source, (bytes, Path)):
                _write_file(descriptor, file)
            else:
                streamed.append(pool.submit(_write_file, descriptor, file))
        for future in streamed:
            future.result()


def _write_file(descriptor: int, inode: _Inode) -> None:
    assert isinstance(inode.node, File)
    offset = inode.block * erofs.BLOCK
    source = inode.node.source
    if isinstance(source, bytes):
        _write_all(descriptor, source, offset)
    elif isinstance(source, Path):
        _write_host_file(descriptor, source, inode.size, offset)
    else:
        _write_stream(descriptor, source, inode.size, offset)


def _write_stream(descriptor: int, source: Content, size: int, offset: int) -> None:
    end = offset + size
    for data in source.parts():
        if offset + len(data) > end:
            raise WriteError(f"the content of {source} is longer than it was said to be")
        _write_all(descriptor, data, offset)
        offset += len(data)
    if offset != end:
        raise WriteError(f"the content of {source} is shorter than it was said to be")


def _write_host_file(descriptor: int, source: Path, size: int, offset: int) -> None:
    origin = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(origin)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise WriteError(f"{show(bytes(source))} changed while the image was being written")
        copied = 0
        while copied < size:
            done = _copy(origin, descriptor, min(_COPY_CHUNK, size - copied), copied, offset + copied)
            if done == 0:
                raise WriteError(f"{show(bytes(source))} shrank while the image was being written")
            copied += done
    finally:
        os.close(origin)


def _copy(origin: int, target: int, length: int, from_offset: int, to_offset: int) -> int:
    # Small files are cheaper to read and write; large ones never need to leave the kernel.
    if length > 64 * 1024:
        try:
            return os.copy_file_range(origin, target, length, from_offset, to_offset)
        except OSError:  # other file systems, old kernels
            length = min(length, 8 << 20)
    data = os.pread(origin, length, from_offset)
    _write_all(target, data, to_offset)
    return len(data)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view = view[done:]
        offset += done


def _blocks(size: int) -> int:
    return -(-size // erofs.BLOCK)
