"""Operations on pipes, sockets, events and readiness."""

import array
import ctypes
import fcntl
import os
import select
import socket
import struct
import termios
from typing import Any

from files import contents, pattern
from kernel import call, operation


@operation
def pipe(flags: int) -> Any:
    return os.pipe2(flags | os.O_NONBLOCK)


@operation
def socketpair(kind: int) -> Any:
    ends = (ctypes.c_int * 2)()
    call(53, socket.AF_UNIX, kind | socket.SOCK_NONBLOCK, 0, ctypes.byref(ends))
    return list(ends)


def with_socket(fd: int, do: Any) -> Any:
    """Uses a descriptor as a socket and leaves it open."""
    borrowed = socket.socket(fileno=fd)
    try:
        borrowed.setblocking(False)
        return do(borrowed)
    finally:
        borrowed.detach()


@operation
def shutdown(fd: int, how: int) -> Any:
    return call(48, fd, how)


@operation
def send(fd: int, count: int, flags: int, passed: int) -> Any:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed]))] if passed >= 0 else []
    return with_socket(fd, lambda s: s.sendmsg([pattern(count)[:count]], rights, flags | socket.MSG_NOSIGNAL))


@operation
def receive(fd: int, count: int, flags: int) -> Any:
    def do(borrowed: socket.socket) -> Any:
        data, control, got, _ = borrowed.recvmsg(count, 64, flags)
        return [contents(data), [[level, kind, part.hex()] for level, kind, part in control], got]

    return with_socket(fd, do)


@operation
def option(fd: int, level: int, name: int) -> Any:
    return with_socket(fd, lambda s: s.getsockopt(level, name))


@operation
def available(fd: int) -> Any:
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]


@operation
def eventfd(value: int, flags: int) -> Any:
    return call(290, value, flags | os.O_NONBLOCK)


@operation
def event_write(fd: int, value: int) -> Any:
    return os.write(fd, struct.pack("Q", value))


@operation
def poll(fds: list[int], events: int) -> Any:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, events)
    return poller.poll(0)


@operation
def select_(reads: list[int], writes: list[int]) -> Any:
    return select.select(reads, writes, reads, 0)


@operation
def epoll(flags: int) -> Any:
    return call(291, flags)


@operation
def epoll_change(epoll_fd: int, how: int, fd: int, events: int) -> Any:
    return call(233, epoll_fd, how, fd, struct.pack("=IQ", events, fd))


@operation
def epoll_wait(fd: int, count: int) -> Any:
    buffer = ctypes.create_string_buffer(12 * max(count, 1))
    ready = call(232, fd, buffer, count, 0)
    return sorted(struct.iter_unpack("=IQ", buffer.raw[: 12 * ready]))


@operation
def timerfd(clock: int, flags: int) -> Any:
    return call(283, clock, flags | os.O_NONBLOCK)


@operation
def timerfd_set(fd: int, flags: int, value_s: int, interval_s: int) -> Any:
    """Seconds are either none or far away, so that nothing depends on how fast the machine is."""
    old = ctypes.create_string_buffer(32)
    call(286, fd, flags, struct.pack("4q", interval_s, 0, value_s, 0), old)
    found = struct.unpack("4q", old.raw)
    return [found[0], found[2] + found[3] > 0]


@operation
def signalfd(fd: int, mask: int) -> Any:
    return call(289, fd, struct.pack("Q", mask), 8, os.O_NONBLOCK)


@operation
def inotify(flags: int) -> Any:
    return call(294, flags | os.O_NONBLOCK)


@operation
def watch(fd: int, path: str, mask: int) -> Any:
    return call(254, fd, path.encode(), mask)


@operation
def unwatch(fd: int, number: int) -> Any:
    return call(255, fd, number)


@operation
def changes(fd: int) -> Any:
    """What an inotify descriptor has to tell; cookies are told apart only by whether there is one."""
    data, told, at = os.read(fd, 8192), [], 0
    while at + 16 <= len(data):
        number, mask, cookie, length = struct.unpack_from("=iIII", data, at)
        told.append([number, hex(mask), cookie != 0, data[at + 16 : at + 16 + length].rstrip(b"\0").decode()])
        at += 16 + length
    return told
