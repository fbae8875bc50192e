"""Changes files in a directory and prints what each call said: natively and in a guest it must be the same."""

# Several calls are one step here, and those that return nothing say None.
# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import errno
import fcntl
import hashlib
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


# Files without a name, and files whose name is another by now: what is open is reached all the same.
def name_it(number: int, name: str) -> None:
    # With a directory to start from Python follows the link.
    os.link(f"proc/self/fd/{number}", name, src_dir_fd=os.open("/", os.O_RDONLY))


def nameless() -> tuple[Any, ...]:
    number = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(number, b"from nowhere")
    before = os.fstat(number).st_nlink, os.listdir("d/e")
    os.fchmod(number, 0o644)
    again = os.open(f"/proc/self/fd/{number}", os.O_RDWR)
    os.pwrite(again, b"F", 0)
    name_it(number, "d/named")
    return before, os.fstat(number).st_nlink, mode("d/named"), read("d/named")


def renamed() -> tuple[Any, ...]:
    number = os.open("d/named", os.O_RDWR)
    os.rename("d/named", "d/other")
    write("d/named", b"")
    os.fchmod(number, 0o600)
    os.utime(number, ns=(1, 2))
    return mode("d/named"), mode("d/other"), os.stat("d/other").st_mtime_ns, os.stat("d/named").st_mtime_ns == 2


tell("nameless", nameless)
tell("never named", lambda: name_it(os.open("d", os.O_TMPFILE | os.O_RDWR | os.O_EXCL), "never"))
tell("nameless for reading", lambda: os.open("d", os.O_TMPFILE | os.O_RDONLY))
tell("renamed while open", renamed)


# Mappings, and the same file by calls.
def in_child(call: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        call()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def opened(name: str, size: int) -> int:
    write(name, b"." * size)
    return os.open(name, os.O_RDWR)


def shared() -> tuple[Any, ...]:
    number = opened("mapped", 10_000)
    with mmap.mmap(number, 0) as one, mmap.mmap(number, 0) as two:
        one[5:8] = b"one"
        seen: tuple[bytes, ...] = two[4:9], os.pread(number, 5, 4), read("mapped")[4:9]
        os.pwrite(number, b"by call", 9_000)
        write("mapped", b"Z", os.O_WRONLY)
        seen += one[9_000:9_007], two[0:1], two[5:8]
        code = in_child(lambda: two.__setitem__(slice(4096, 4101), b"child"))
        return *seen, code, one[4096:4101], os.fstat(number).st_size


def grown() -> tuple[Any, ...]:
    number = opened("grown", 100)
    with mmap.mmap(number, 100) as mapped:
        mapped[99:100] = b"!"
        os.ftruncate(number, 50)
        os.ftruncate(number, 100)
        os.pwrite(number, b"end", 9_000)
        with mmap.mmap(number, 0) as whole:
            whole[5_000:5_002] = b"xx"
            return mapped[48:52], mapped[99:100], len(whole), os.pread(number, 4, 4_999), whole[8_999:9_003]


def private_of_shared() -> tuple[Any, ...]:
    number = opened("both", 4096)
    with mmap.mmap(number, 0) as ours, mmap.mmap(number, 0, flags=mmap.MAP_PRIVATE) as own:
        own[1:2] = b"p"
        ours[2:3] = b"s"
        return own[0:4], ours[0:4], read("both")[:4]


def removed_while_mapped() -> tuple[Any, ...]:
    number = opened("removed", 4096)
    with mmap.mmap(number, 0) as mapped:
        os.close(number)
        os.unlink("removed")
        mapped[0:4] = b"gone"
        mapped.flush()
        return mapped[:5], os.path.exists("removed")


def reading_only() -> None:
    number = os.open("mapped", os.O_RDONLY)
    mmap.mmap(number, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def beyond_the_end() -> int:
    number = opened("short", 8192)
    with mmap.mmap(number, 0) as mapped:
        mapped[4096:4097] = b"x"
        os.ftruncate(number, 10)
        return in_child(lambda: print(mapped[5000]))


def sparse() -> tuple[Any, ...]:
    number = opened("sparse", 0)
    os.ftruncate(number, 3 << 20)
    with mmap.mmap(number, 0) as mapped:
        for at in range(0, 3 << 20, 9_999):
            mapped[at : at + 2] = b"ab"
        mapped.flush()
    return hash_of(read("sparse")), os.stat("sparse").st_size


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


tell("map shared", shared)
tell("map and grow", grown)
tell("map shared and privately", private_of_shared)
tell("map and remove", removed_while_mapped)
tell("map for writing what is open for reading", reading_only)
tell("map beyond the end", beyond_the_end)
tell("map sparsely", sparse)
