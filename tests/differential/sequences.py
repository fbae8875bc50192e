"""Hypothesis strategies: sequences of operations for the interpreter."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]
Operation = tuple[str, list[Any]]


def of(*values: Any) -> Strategy:
    return st.sampled_from(values)


def bits(*values: int) -> Strategy:
    """Any of some flags, often none."""
    return st.lists(of(*values), max_size=3).map(lambda chosen: sum(set(chosen)))


# Few names, so that operations meet.
NAME = of("a", "b", "c", "d")
PATH = st.one_of(
    NAME,
    st.builds("{}/{}".format, NAME, NAME),
    of(".", "..", "a/..", "d/.", "a/", "d/", "./a", "d/../b", "", "x" * 256, "a/b/c", ".//.", "/proc/self/fd/3"),
)
TARGET = st.one_of(PATH, of("loop", "../d", "d/b"))
FD = st.one_of(st.integers(3, 8), st.integers(3, 12), of(-1, 99, 1023, 1024))
SIZE = of(0, 1, 2, 7, 100, 512, 4095, 4096, 4097, 8192, 10_000, 65_536, 70_000)
OFFSET = of(0, 0, 1, 5, 100, 4095, 4096, 4097, 8192, 12_288, 65_536, 100_000, -1, -4096, 1 << 62)
PLACE = of(0, 0, 1, 100, 4096, 8192, 20_000)
MODE = of(0, 0o400, 0o444, 0o600, 0o644, 0o700, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o200, 0o100, 0o300)
ACCESS = of(os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR)
CREATE = of(0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL)
MORE = bits(os.O_TRUNC, os.O_APPEND, os.O_CLOEXEC, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_PATH, os.O_NOATIME)
OPEN_FLAGS = st.one_of(
    st.builds(lambda a, c, m: a | c | m, ACCESS, CREATE, st.one_of(st.just(0), MORE)),
    of(os.O_TMPFILE | os.O_RDWR, os.O_TMPFILE | os.O_WRONLY | os.O_EXCL),
)
XATTR = of("user.a", "user.b", "user.", "trusted.a", "system.a", "none")
NUMBER = of(signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGCHLD, signal.SIGURG, 34, 35, 64).map(int)
NUMBERS = st.lists(NUMBER, max_size=4, unique=True)
PAGE = st.one_of(st.integers(0, 8), st.integers(0, 24))
PAGES = of(1, 1, 2, 3, 5, 8, 0)
PROTECTION = of(0, 1, 1, 2, 3, 3, 3, 3, 5, 7)
MAP_FLAGS = of(1, 1, 2, 2, 3, 0x21, 0x22, 0x22, 0, 0x4022, 0x100021, 0x100022)
CHARGED = of(socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET).map(int)
EVENTS = of(1, 4, 5, 7, 0x2005, 0x3DF, 0)


def on(name: str, *arguments: Strategy) -> st.SearchStrategy[Operation]:
    return st.tuples(st.just(name), st.tuples(*arguments).map(list))


FILES = [
    on("open", PATH, OPEN_FLAGS, MODE),
    on("open", NAME, of(os.O_RDWR | os.O_CREAT), of(0o644, 0o755)),
    on("open", NAME, of(os.O_RDWR | os.O_CREAT), of(0o644, 0o755)),
    on("close", FD),
    on("read", FD, SIZE),
    on("write", FD, SIZE),
    on("write", FD, SIZE),
    on("pread", FD, SIZE, OFFSET),
    on("pwrite", FD, SIZE, OFFSET),
    on("readv", FD, st.lists(SIZE, max_size=3)),
    on("writev", FD, st.lists(SIZE, max_size=3)),
    on("lseek", FD, OFFSET, of(0, 0, 1, 2, 3, 4, 5)),
    on("truncate", PATH, OFFSET),
    on("ftruncate", FD, OFFSET),
    on("fallocate", FD, of(0, 0, 1, 2, 3, 3, 8, 0x10, 0x11, 0x20, 0x40), OFFSET, SIZE),
    on("stat", PATH, st.booleans()),
    on("stat", NAME, st.booleans()),
    on("fstat", FD),
    on("statx", PATH, bits(0x100, 0x800, 0x2000), of(0x7FF, 0xFFF, 1, 0x80000000)),
    on("access", PATH, of(0, 1, 2, 4, 7, 8), bits(0x100, 0x200)),
    on("mkdir", PATH, MODE),
    on("mkdir", NAME, of(0o755)),
    on("rmdir", PATH),
    on("unlink", PATH, of(0, 0, 0x200, 1)),
    on("rename", PATH, PATH, of(0, 0, 0, 1, 2, 3, 4)),
    on("rename", NAME, NAME, of(0, 1, 2)),
    on("link", PATH, PATH, of(0, 0, 0x400)),
    on("link_open", FD, NAME),
    on("symlink", TARGET, PATH),
    on("readlink", PATH),
    on("mkfifo", PATH, MODE),
    on("chmod", PATH, MODE),
    on("fchmod", FD, MODE),
    on("chown", PATH, of(-1, 0, 65534), of(-1, 0, 65534)),
    on("utime", PATH, of(0, 1, 1_000_000_000), of(0, 1, 999_999_999, 1_000_000_000, 0x3FFFFFFF, 0x3FFFFFFE)),
    on("umask", of(0, 0o22, 0o77, 0o777)),
    on("chdir", PATH),
    on("getcwd"),
    on("listing", PATH),
    on("getdents", FD, of(0, 16, 24, 300, 4096)),
    on("dup", FD),
    on("dup3", FD, FD, of(0, os.O_CLOEXEC, 1)),
    on("control", FD, of(0, 1, 2, 3, 4, 1030, 1031, 1032, 1033, 1034), of(0, 1, 5, 15, 0x400, 0x4000, 4096, 100_000)),
    on("lock", FD, of(5, 6, 36, 37), of(0, 1, 2, 3), OFFSET, of(0, 1, 100, -50), of(0, 1, 2)),
    on("flock", FD, of(1, 2, 8, 0)),
    on("copy_range", FD, FD, of(-1, 0, 100, 4096), of(-1, 0, 100, 4096), SIZE),
    on("sendfile", FD, FD, of(-1, 0, 100, 4096), SIZE),
    on("splice", FD, FD, SIZE),
    on("tee", FD, FD, SIZE),
    on("memfd", bits(1, 2, 8, 16)),
    on("sync", FD),
    on("setxattr", PATH, XATTR, of(0, 1, 100), of(0, 0, 1, 2, 3)),
    on("getxattr", PATH, XATTR),
    on("listxattr", PATH),
    on("removexattr", PATH, XATTR),
]
EVENT_CALLS = [
    on("pipe", bits(os.O_CLOEXEC, os.O_DIRECT)),
    on("pipe", of(0)),
    on("socketpair", CHARGED),
    on("shutdown", FD, of(0, 1, 2, 3)),
    on("send", FD, of(0, 1, 100, 5000), of(0, 0, 0x80), st.one_of(of(-1), FD)),
    on("receive", FD, of(0, 1, 50, 5000), of(0, 0, 2, 0x20, 0x22, 0x40)),
    on("option", FD, of(1), of(2, 3, 4, 30, 38, 39)),
    on("available", FD),
    on("eventfd", of(0, 1, 5), bits(1, os.O_CLOEXEC)),
    on("event_write", FD, of(0, 1, 3, 2**64 - 2, 2**64 - 1)),
    on("poll", st.lists(FD, max_size=5), EVENTS),
    on("select", st.lists(st.integers(3, 8), max_size=3), st.lists(st.integers(3, 8), max_size=3)),
    on("epoll", of(0, os.O_CLOEXEC, 1)),
    on("epoll_change", FD, of(1, 1, 1, 2, 3), FD, of(1, 4, 5, 0x2005, 0x80000001, 0x40000005, 0x10000001)),
    on("epoll_wait", FD, of(0, 1, 5, 20)),
    on("timerfd", of(0, 1, 7, 9, 3), bits(os.O_CLOEXEC, 2)),
    on("timerfd_set", FD, of(0, 1, 2, 4), of(0, 100_000), of(0, 50)),
    on("signalfd", st.one_of(of(-1), FD), of(0, 0x200, 0xA00, 1 << 63)),
    on("inotify", bits(os.O_CLOEXEC)),
    on("watch", FD, of(".", "a", "b", "d"), of(0xFFF, 0x100, 0x2, 0x80000FFF, 0x1000FFF, 0x20000FFF, 0)),
    on("unwatch", FD, of(1, 2, 9)),
    on("changes", FD),
]
MEMORY = [
    on("map", PAGE, PAGES, PROTECTION, MAP_FLAGS, FD, of(0, 0, 1, 2, 20)),
    on("map", PAGE, of(2, 4, 8), of(3), of(1, 2, 0x21, 0x22), FD, of(0)),
    on("unmap", PAGE, PAGES),
    on("protect", PAGE, PAGES, PROTECTION),
    on("remap", PAGE, PAGES, PAGES, st.one_of(of(-1), PAGE)),
    on("advise", PAGE, PAGES, of(0, 1, 2, 3, 4, 4, 9, 10, 11, 14, 15, 21, 22, 99)),
    on("msync", PAGE, PAGES, of(0, 1, 2, 4, 5, 6)),
    on("lock_memory", PAGE, PAGES),
    on("peek", PAGE, of(0, 0, 1, 4095), of(1, 8, 100, 5000)),
    on("poke", PAGE, of(0, 0, 1, 4095), of(1, 8, 100, 5000)),
    on("touch", PAGE, of(0, 100), st.booleans()),
    on("mappings"),
]
SIGNALS = [
    on("handle", NUMBER, of("default", "ignore", "note", "note")),
    on("raise", NUMBER),
    on("queue", NUMBER, of(0, 7)),
    on("delivered"),
    on("mask", of(0, 1, 2), NUMBERS),
    on("pending"),
    on("take", NUMBERS),
]
END = st.one_of(
    st.tuples(st.just("exit"), of(0, 1, 255)),
    st.tuples(
        st.just("signal"),
        of(signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1, signal.SIGSTOP, signal.SIGTSTP, 34).map(int),
    ),
).map(list)
IN_CHILD = st.lists(st.one_of(FILES + EVENT_CALLS + MEMORY + SIGNALS), max_size=4)
PROCESSES = [
    on("fork", IN_CHILD, END),
    on("fork", IN_CHILD, END),
    on("wait", of(0, os.WNOHANG, os.WUNTRACED)),
    on("execute", PATH, of([], ["x"])),
    on("execute", of("/bin/sh"), of(["sh", "-c", "cd /proc/self/fd && echo *"], ["sh", "-c", "kill -9 $$"])),
    on("group", of(0, 0, -1, 1 << 30), of(0, -1, 1 << 30)),
    on("groups"),
    on("session"),
    on("kill", of(0, 1 << 30, -(1 << 30)), of(0, 65, -1)),
    on("limit", of(7, 4, 1), of(0, 4, 8, 64, 4096), of(8, 64, 8192)),
    on("nice", of(0, 1, -1)),
    on("name", of("", "x", "a name that is too long")),
    on("identity", of(-1, 65534, 0), of(-1, 65534, 0), of(-1, 65534, 0)),
]

ANY = st.one_of(
    st.one_of(FILES), st.one_of(FILES), st.one_of(EVENT_CALLS), st.one_of(MEMORY), st.one_of(SIGNALS + PROCESSES)
)
#: Some sequences keep to one area, so that they get deep into it.
SEQUENCES = st.one_of(
    st.lists(ANY, min_size=1, max_size=30),
    st.lists(st.one_of(FILES), min_size=1, max_size=30),
    st.lists(st.one_of(st.one_of(EVENT_CALLS), st.one_of(FILES)), min_size=1, max_size=30),
    st.lists(st.one_of(st.one_of(MEMORY), st.one_of(FILES)), min_size=1, max_size=30),
    st.lists(st.one_of(SIGNALS + PROCESSES), min_size=1, max_size=20),
)
