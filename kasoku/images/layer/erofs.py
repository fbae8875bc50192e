"""The on-disk structures of EROFS that Kasoku writes (Linux, fs/erofs/erofs_fs.h): numbers and packing, no behaviour.

All integers are little-endian. An inode's number (nid) is its offset in the metadata area in units of 32 bytes.
"""

from __future__ import annotations

import struct

BLOCK = 4096
BLOCK_BITS = 12
SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 128
MAGIC = 0xE0F5E1E2
COMPAT_CHECKSUM = 0x1
COMPAT_MTIME = 0x2

SLOT = 32
COMPACT_INODE = 32
EXTENDED_INODE = 64
LAYOUT_PLAIN = 0
LAYOUT_INLINE = 2

DIRENT = struct.Struct("<QHBB")
NAME_MAX = 255
TYPE_FILE = 1
TYPE_DIRECTORY = 2
TYPE_SYMLINK = 7

#: Time of every file, 2000-01-01 UTC: the same in every build, and late enough for zip archives (1980).
FIXED_TIME_S = 946_684_800

_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23s")
_COMPACT = struct.Struct("<HHHHIIIIHHI")
_EXTENDED = struct.Struct("<HHHHQIIIIQII16x")
assert _SUPERBLOCK.size == SUPERBLOCK_SIZE
assert _COMPACT.size == COMPACT_INODE
assert _EXTENDED.size == EXTENDED_INODE


def superblock(*, root_nid: int, inodes: int, blocks: int, uuid: bytes) -> bytes:
    """Returns block 0 with a valid checksum; its first 1024 bytes stay empty, for boot loaders."""

    def pack(checksum: int) -> bytes:
        return _SUPERBLOCK.pack(
            MAGIC,
            checksum,
            COMPAT_CHECKSUM | COMPAT_MTIME,
            BLOCK_BITS,
            0,  # no extension slots
            root_nid,
            inodes,
            FIXED_TIME_S,
            0,
            blocks,
            0,  # the metadata area begins at block 0
            0,  # no shared extended attributes
            uuid,
            b"kasoku",
            0,  # no incompatible feature
            0,
            0,
            0,
            0,  # directory blocks are as large as blocks
            0,
            0,
            0,
            0,
            bytes(23),
        )

    tail = bytes(BLOCK - SUPERBLOCK_OFFSET - SUPERBLOCK_SIZE)
    checksum = crc32c(pack(0) + tail)
    return bytes(SUPERBLOCK_OFFSET) + pack(checksum) + tail


def needs_extended(*, size: int, links: int) -> bool:
    """Says whether an inode's numbers are too large for the compact form."""
    return size > 0xFFFFFFFF or links > 0xFFFF


def inode(*, layout: int, mode: int, links: int, size: int, block: int, number: int) -> bytes:
    """Packs one inode, compact where it fits; owner and group are root, the time is that of the superblock."""
    if not needs_extended(size=size, links=links):
        return _COMPACT.pack(layout << 1, 0, mode, links, size, 0, block, number, 0, 0, 0)
    return _EXTENDED.pack(layout << 1 | 1, 0, mode, 0, size, block, number, 0, 0, FIXED_TIME_S, 0, links)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli sum as EROFS uses it: begun with all ones and not inverted at the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value
