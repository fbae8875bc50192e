"""Operations on files, directories and descriptors. Paths are relative to the directory of the sequence."""

import ctypes
import fcntl
import os
import stat
import struct
import zlib
from typing import Any

from kernel import call, operation

AT_FDCWD = -100
TRANSFER_MAX = 1 << 20
#: Contents depend on how many operations wrote before, so that a read shows whose bytes it got.
serial = 0


def pattern(count: int) -> bytes:
    global serial  # noqa: PLW0603
    serial += 1
    return bytes((serial * 31 + index * 7) & 0xFF for index in range(256)) * (count // 256 + 1)


def contents(data: bytes) -> Any:
    return [len(data), zlib.crc32(data), data[:4].hex()]


def described(found: os.stat_result) -> dict[str, Any]:
    """The fields that are the same on every machine. A directory's size is its file system's own affair."""
    kind = stat.S_IFMT(found.st_mode)
    fields = {
        "kind": oct(kind),
        "mode": oct(stat.S_IMODE(found.st_mode)),
        "links": found.st_nlink,
        "mine": [found.st_uid == os.geteuid(), found.st_gid == os.getegid()],
    }
    if kind != stat.S_IFDIR:
        fields["size"] = found.st_size
    if kind == stat.S_IFREG:
        fields["blocks"] = found.st_blocks
        fields["block size"] = found.st_blksize
    return fields


@operation
def open_(path: str, flags: int, mode: int) -> Any:
    # Without O_NONBLOCK a FIFO would wait for its other end.
    return os.open(path, flags | os.O_NONBLOCK, mode)


@operation
def close(fd: int) -> Any:
    return os.close(fd)


@operation
def read(fd: int, count: int) -> Any:
    return contents(os.read(fd, count))


@operation
def write(fd: int, count: int) -> Any:
    return os.write(fd, pattern(count)[:count])


@operation
def pread(fd: int, count: int, offset: int) -> Any:
    return contents(os.pread(fd, count, offset))


@operation
def pwrite(fd: int, count: int, offset: int) -> Any:
    return os.pwrite(fd, pattern(count)[:count], offset)


@operation
def readv(fd: int, counts: list[int]) -> Any:
    buffers = [bytearray(count) for count in counts]
    total = os.readv(fd, buffers)
    return [total, contents(b"".join(buffers)[:total])]


@operation
def writev(fd: int, counts: list[int]) -> Any:
    return os.writev(fd, [pattern(count)[:count] for count in counts])


@operation
def lseek(fd: int, offset: int, whence: int) -> Any:
    return os.lseek(fd, offset, whence)


@operation
def truncate(path: str, length: int) -> Any:
    return os.truncate(path, length)


@operation
def ftruncate(fd: int, length: int) -> Any:
    return os.ftruncate(fd, length)


@operation
def fallocate(fd: int, mode: int, offset: int, length: int) -> Any:
    return call(285, fd, mode, offset, length)


@operation
def stat_(path: str, follow: bool) -> Any:
    return described(os.stat(path, follow_symlinks=follow))


@operation
def fstat(fd: int) -> Any:
    found = os.fstat(fd)
    return described(found) if stat.S_IFMT(found.st_mode) not in (0, stat.S_IFSOCK) else "no file"


@operation
def statx(path: str, flags: int, mask: int) -> Any:
    buffer = ctypes.create_string_buffer(256)
    call(332, AT_FDCWD, path.encode(), flags, mask, buffer)
    got, _, _, links, _, _, mode = struct.unpack_from("=IIQIIIH", buffer.raw)
    return [hex(got & mask & 0x7FF), links, oct(mode)]


@operation
def access(path: str, mode: int, flags: int) -> Any:
    return call(439, AT_FDCWD, path.encode(), mode, flags)


@operation
def mkdir(path: str, mode: int) -> Any:
    return os.mkdir(path, mode)


@operation
def rmdir(path: str) -> Any:
    return os.rmdir(path)


@operation
def unlink(path: str, flags: int) -> Any:
    return call(263, AT_FDCWD, path.encode(), flags)


@operation
def rename(source: str, target: str, flags: int) -> Any:
    return call(316, AT_FDCWD, source.encode(), AT_FDCWD, target.encode(), flags)


@operation
def link(source: str, target: str, flags: int) -> Any:
    return call(265, AT_FDCWD, source.encode(), AT_FDCWD, target.encode(), flags)


@operation
def link_open(fd: int, target: str) -> Any:
    return call(265, AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, target.encode(), 0x400)


@operation
def symlink(target: str, path: str) -> Any:
    return os.symlink(target, path)


@operation
def readlink(path: str) -> Any:
    return os.readlink(path)


@operation
def mkfifo(path: str, mode: int) -> Any:
    return os.mkfifo(path, mode)


@operation
def chmod(path: str, mode: int) -> Any:
    return call(268, AT_FDCWD, path.encode(), mode)


@operation
def fchmod(fd: int, mode: int) -> Any:
    return call(91, fd, mode)


@operation
def chown(path: str, user: int, group: int) -> Any:
    return call(260, AT_FDCWD, path.encode(), user, group, 0)


@operation
def utime(path: str, seconds: int, nanoseconds: int) -> Any:
    times = struct.pack("4q", seconds, nanoseconds, seconds, nanoseconds)
    call(280, AT_FDCWD, path.encode(), times, 0)
    found = os.stat(path)
    special = nanoseconds in (0x3FFFFFFF, 0x3FFFFFFE)
    return "now or left" if special else [found.st_mtime_ns, found.st_atime_ns]


@operation
def umask(mask: int) -> Any:
    return os.umask(mask)


@operation
def chdir(path: str) -> Any:
    """Never leaves the sequence's directory."""
    os.chdir(path)
    folder = os.environ["KASOKU_SEQUENCE"]
    if not f"{os.getcwd()}/".startswith(f"{folder}/"):
        os.chdir(folder)
        return "stays"
    return None


@operation
def getcwd() -> Any:
    return os.getcwd().removeprefix(os.environ["KASOKU_SEQUENCE"])


@operation
def listing(path: str) -> Any:
    with os.scandir(path) as entries:
        return sorted([entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()] for entry in entries)


@operation
def getdents(fd: int, size: int) -> Any:
    """How many entries fit is the file system's own affair; that some do, or none, is not."""
    buffer = ctypes.create_string_buffer(size)
    return call(217, fd, buffer, size) > 0


@operation
def dup(fd: int) -> Any:
    return call(32, fd)


@operation
def dup3(fd: int, target: int, flags: int) -> Any:
    return call(292, fd, target, flags)


@operation
def control(fd: int, command: int, argument: int) -> Any:
    if command == fcntl.F_SETFL:
        argument |= os.O_NONBLOCK
    return fcntl.fcntl(fd, command, argument)


@operation
def lock(fd: int, command: int, kind: int, start: int, length: int, whence: int) -> Any:
    found = fcntl.fcntl(fd, command, struct.pack("=hhxxxxqqixxxx", kind, whence, start, length, 0))
    return struct.unpack("=hhxxxxqqixxxx", found)[:4] if command in (5, 36) else 0


@operation
def flock(fd: int, how: int) -> Any:
    return fcntl.flock(fd, how | fcntl.LOCK_NB)


@operation
def copy_range(source: int, target: int, source_at: int, target_at: int, count: int) -> Any:
    """Offsets of -1 stand for the descriptor's own."""
    positions = [struct.pack("q", at) if at >= 0 else None for at in (source_at, target_at)]
    return call(326, source, positions[0], target, positions[1], count, 0)


@operation
def sendfile(target: int, source: int, offset: int, count: int) -> Any:
    return call(40, target, source, struct.pack("q", offset) if offset >= 0 else None, count)


@operation
def splice(source: int, target: int, count: int) -> Any:
    return call(275, source, None, target, None, count, 2)


@operation
def tee(source: int, target: int, count: int) -> Any:
    return call(276, source, target, count, 2)


@operation
def memfd(flags: int) -> Any:
    return call(319, b"memory", flags)


@operation
def sync(fd: int) -> Any:
    return os.fsync(fd)


@operation
def setxattr(path: str, name: str, count: int, flags: int) -> Any:
    return os.setxattr(path, name, pattern(count)[:count], flags)


@operation
def getxattr(path: str, name: str) -> Any:
    return contents(os.getxattr(path, name))


@operation
def listxattr(path: str) -> Any:
    return sorted(os.listxattr(path))


@operation
def removexattr(path: str, name: str) -> Any:
    return os.removexattr(path, name)
