"""Changes files in a directory and prints what each call said: natively and in a guest it must be the same."""

# Several calls are one step here, and those that return nothing say None.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any


def tell(what: str, call: Callable[[], Any]) -> None:
    try:
        print(what, call())
    except OSError as error:
        print(what, errno.errorcode[error.errno or 0])


def write(name: str, data: bytes, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode: int = 0o666) -> int:
    descriptor = os.open(name, flags, mode)
    try:
        return os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def mode(name: str) -> str:
    return oct(os.lstat(name).st_mode)


os.chdir(sys.argv[1])
os.umask(0o027)
tell("create", lambda: write("a", b"hello", mode=0o777))
tell("mode", lambda: mode("a"))
tell("exclusive", lambda: write("a", b"", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
tell("append", lambda: (write("a", b" world", os.O_WRONLY | os.O_APPEND), read("a")))
tell("truncate", lambda: (os.truncate("a", 3), read("a")))
tell("extend", lambda: (os.truncate("a", 6), read("a")))
tell("again", lambda: (write("a", b"x"), os.stat("a").st_size))
tell("large", lambda: (write("large", bytes(range(256)) * 8192), sum(read("large")), os.stat("large").st_size))
tell("mkdir", lambda: (os.mkdir("d", 0o777), mode("d")))
tell("mkdir twice", lambda: os.mkdir("d"))
tell("deep", lambda: os.makedirs("d/e/f"))
tell("rename", lambda: (os.rename("a", "d/a"), os.path.exists("a"), read("d/a")))
tell("rename over", lambda: (write("b", b"b"), os.rename("b", "d/a"), read("d/a")))
tell("rename to directory", lambda: os.rename("d/a", "d/e"))
tell("rename into itself", lambda: os.rename("d", "d/e/d"))
tell("rename missing", lambda: os.rename("none", "other"))
tell("link", lambda: (os.link("d/a", "hard"), os.stat("hard").st_nlink))
tell("link twice", lambda: os.link("d/a", "hard"))
tell("link of directory", lambda: os.link("d", "d2"))
tell("symlink", lambda: (os.symlink("d/a", "soft"), os.readlink("soft"), read("soft"), mode("soft")))
tell("dangling", lambda: (os.symlink("nowhere", "dangling"), os.path.exists("dangling"), os.path.lexists("dangling")))
tell("create through link", lambda: (write("dangling", b"made"), read("nowhere")))
tell("open nofollow", lambda: os.open("soft", os.O_RDONLY | os.O_NOFOLLOW))
tell("chmod", lambda: (os.chmod("hard", 0o604), mode("d/a")))
tell("utime", lambda: (os.utime("hard", ns=(5, 7)), os.stat("hard").st_mtime_ns, os.stat("hard").st_atime_ns))
tell("chown to the same", lambda: os.chown("hard", os.stat("hard").st_uid, -1))
tell("unlink directory", lambda: os.unlink("d"))
tell("rmdir full", lambda: os.rmdir("d"))
tell("rmdir file", lambda: os.rmdir("hard"))
tell("list", lambda: (sorted(os.listdir(".")), sorted(os.listdir("d"))))
tell("scan", lambda: sorted((entry.name, entry.is_dir(), entry.is_symlink()) for entry in os.scandir(".")))
tell("not a directory", lambda: os.stat("hard/x"))
tell("long name", lambda: write("n" * 256, b""))
tell("open of directory", lambda: os.open("d", os.O_WRONLY))
tell("sync", lambda: os.fsync(os.open("hard", os.O_RDWR)))
tell("sync of directory", lambda: os.fsync(os.open("d", os.O_RDONLY)))

# Offsets, a file that is removed while it is open, locks, mappings.
number = os.open("open", os.O_RDWR | os.O_CREAT)
tell("pwrite", lambda: (os.pwrite(number, b"abcdef", 4), os.pread(number, 20, 0), os.fstat(number).st_size))
tell("seek", lambda: (os.lseek(number, 0, os.SEEK_END), os.lseek(number, -2, os.SEEK_CUR), os.read(number, 9)))
tell("ftruncate", lambda: (os.ftruncate(number, 5), os.fstat(number).st_size))
tell("fchmod", lambda: (os.fchmod(number, 0o640), oct(os.fstat(number).st_mode)))
other = os.open("open", os.O_RDWR)
tell("lock", lambda: fcntl.flock(number, fcntl.LOCK_EX))
tell("lock twice", lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB))
tell(
    "unlink open",
    lambda: (os.unlink("open"), os.pread(number, 9, 0), os.pwrite(other, b"zz", 0), os.pread(number, 2, 0)),
)
tell("map", lambda: mmap.mmap(os.open("large", os.O_RDONLY), 0, prot=mmap.PROT_READ)[255:258])


def private() -> tuple[bytes, bytes]:
    with open("large", "r+b") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        mapped[0:3] = b"own"
        return mapped[:4], read("large")[:4]


tell("map privately", private)
tell(
    "forked",
    lambda: (
        os.waitstatus_to_exitcode(os.system("echo child > child && cat child && rm child")),
        os.path.exists("child"),
    ),
)
tell("program", lambda: (write("run", b"#!/bin/sh\necho ran $1\n"), os.chmod("run", 0o755), os.system("./run here")))
for index in range(300):
    write(f"d/e/{index}", b"")
tell(
    "many", lambda: (len(os.listdir("d/e")), [os.unlink(f"d/e/{index}") for index in range(300)] and os.listdir("d/e"))
)
