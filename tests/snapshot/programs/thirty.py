"""Thirty programs, each a process of its own that is in the middle of something when the guest is saved.

`thirty.py CHANNEL`: starts them all, prints "half" when each is in its middle, lets them go on when a byte comes
through CHANNEL, and prints what each has to say, in order: the same whether or not they were saved in between.
"""

import array
import asyncio
import contextvars
import decimal
import errno
import fcntl
import hashlib
import mmap
import os
import pickle
import queue
import random
import resource
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Generator

Half = Callable[[], None]
PROGRAMS: dict[str, Callable[[Half], object]] = {}
MIB = 1 << 20


def program(function: Callable[[Half], object]) -> Callable[[Half], object]:
    PROGRAMS[function.__name__] = function
    return function


@program
def spinning_threads(half: Half) -> object:
    stop, sums = threading.Event(), [0, 0]

    def spin(index: int) -> None:
        while not stop.is_set():
            sums[index] += 1

    threads = [threading.Thread(target=spin, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    half()
    before = list(sums)
    while not all(after > first for first, after in zip(before, sums, strict=True)):
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    return len(sums)


@program
def threads_on_a_queue(half: Half) -> object:
    work: queue.Queue[int | None] = queue.Queue()
    done: queue.Queue[int] = queue.Queue()

    def serve() -> None:
        while (item := work.get()) is not None:
            done.put(item * item)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    half()
    for number in range(40):
        work.put(number)
    for _ in threads:
        work.put(None)
    for thread in threads:
        thread.join()
    return sorted(done.get() for _ in range(40))


@program
def a_condition(half: Half) -> object:
    condition, told = threading.Condition(), []

    def wait() -> None:
        with condition:
            told.append(condition.wait(60))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    half()
    time.sleep(0.02)
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()
    return told


@program
def an_open_file(half: Half) -> object:
    with open("/tmp/lines", "w+") as file:
        file.write("".join(f"line {n}\n" for n in range(1000)))
        file.seek(0)
        first = [file.readline() for _ in range(10)]
        half()
        return first[-1], file.readline(), sum(1 for _ in file)


@program
def unwritten_buffers(half: Half) -> object:
    with open("/tmp/buffered", "wb", buffering=MIB) as file:
        file.write(b"before ")
        half()
        file.write(b"after")
    with open("/tmp/buffered", "rb") as file:
        return file.read()


@program
def a_deleted_file(half: Half) -> object:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100000)
        half()
        file.seek(50000)
        return len(file.read()), os.fstat(file.fileno()).st_nlink


@program
def half_a_directory(half: Half) -> object:
    os.mkdir("/tmp/many")
    for number in range(300):
        open(f"/tmp/many/{number}", "w").close()
    with os.scandir("/tmp/many") as entries:
        names = [next(entries).name for _ in range(100)]
        half()
        names += [entry.name for entry in entries]
    return len(names), sorted(names) == sorted(map(str, range(300)))


@program
def a_mapped_file(half: Half) -> object:
    with open("/tmp/mapped", "wb+") as file:
        file.truncate(MIB)
        with mmap.mmap(file.fileno(), MIB) as shared, mmap.mmap(file.fileno(), MIB, mmap.MAP_PRIVATE) as private:
            shared[:5] = b"both "
            private[MIB - 4 :] = b"mine"
            half()
            shared[5:10] = b"after"
            file.seek(0)
            return file.read(10), shared[MIB - 4 :], private[MIB - 4 :]


@program
def a_lock_that_another_waits_for(half: Half) -> object:
    held = os.open("/tmp/lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    reading, writing = os.pipe()
    if os.fork() == 0:
        with open("/tmp/lock", "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            os.write(writing, b"mine now")
        os._exit(0)
    half()
    empty = not select.select([reading], [], [], 0.02)[0]
    fcntl.flock(held, fcntl.LOCK_UN)
    os.wait()
    return empty, os.read(reading, 100)


@program
def an_armed_timer(half: Half) -> object:
    fired: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: fired.append(number))
    signal.setitimer(signal.ITIMER_REAL, 600.0)
    half()
    left = signal.setitimer(signal.ITIMER_REAL, 0.02)[0]
    while not fired:
        time.sleep(0.005)
    return fired, 500 < left < 600


@program
def a_sleep(half: Half) -> object:
    def sleep() -> None:
        begin = time.monotonic()
        time.sleep(1.0)
        slept.append(time.monotonic() - begin >= 1.0)

    slept: list[bool] = []
    thread = threading.Thread(target=sleep)
    thread.start()
    half()
    thread.join()
    return slept


@program
def a_clock(half: Half) -> object:
    before = time.monotonic_ns(), time.time_ns(), time.process_time_ns()
    half()
    after = time.monotonic_ns(), time.time_ns(), time.process_time_ns()
    return [b >= a for a, b in zip(before, after, strict=True)]


@program
def epoll(half: Half) -> object:
    ring, (reading, writing) = select.epoll(), os.pipe()
    event = os.eventfd(0)
    ring.register(reading, select.EPOLLIN)
    ring.register(event, select.EPOLLIN | select.EPOLLET)
    seen: list[int] = []

    def wait() -> None:
        while len(seen) < 2:
            for descriptor, _ in ring.poll():
                seen.append(len(os.read(descriptor, 8)))

    thread = threading.Thread(target=wait)
    thread.start()
    half()
    os.write(writing, b"hello")
    os.eventfd_write(event, 3)
    thread.join()
    return sorted(seen)


@program
def a_full_pipe(half: Half) -> object:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 65536)
    thread = threading.Thread(target=lambda: [os.write(writing, bytes([n]) * 50000) for n in range(4)])
    thread.start()
    half()
    data = b""
    while len(data) < 200000:
        data += os.read(reading, 65536)
    thread.join()
    return hashlib.sha256(data).hexdigest()


@program
def sockets(half: Half) -> object:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        client.send(b"on the way")
        pending = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for number in range(3):
            pair[0].send(bytes([number]))
        half()
        second, _ = server.accept()
        pending.send(b"late")
        return accepted.recv(100), second.recv(100), [pair[1].recv(10) for _ in range(3)]


@program
def a_passed_descriptor(half: Half) -> object:
    left, right = socket.socketpair()
    with open("/tmp/passed", "w+") as file:
        file.write("through the socket")
        file.flush()
        socket.send_fds(left, [b"x"], [file.fileno()])
    half()
    _, files, _, _ = socket.recv_fds(right, 1, 1)
    return os.pread(files[0], 100, 0)


@program
def children(half: Half) -> object:
    pids = []
    for number in range(5):
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.read(reading, 1)
            os._exit(number)
        pids.append((pid, writing))
    half()
    statuses = []
    for pid, writing in pids:
        os.write(writing, b"x")
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return statuses


@program
def a_filter_program(half: Half) -> object:
    sort = [sys.executable, "-c", "import sys; print(*sorted(sys.stdin), sep='')"]
    with subprocess.Popen(sort, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        child.stdin.write("pear\napple\n")
        child.stdin.flush()
        half()
        child.stdin.write("fig\n")
        child.stdin.close()
        return child.stdout.read()


@program
def a_dead_child(half: Half) -> object:
    if (pid := os.fork()) == 0:
        os._exit(7)
    half()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@program
def blocked_signals(half: Half) -> object:
    got: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: got.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR1)
    half()
    os.kill(os.getpid(), signal.SIGUSR2)
    pending = sorted(signal.sigpending())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1, signal.SIGUSR2])
    return pending, sorted(got)


@program
def generators(half: Half) -> object:
    def count() -> Generator[int, int | None, None]:
        try:
            for number in range(100):
                got = yield number
                if got:
                    yield got * 1000
        finally:
            closed.append(True)

    closed: list[bool] = []
    one, two = count(), count()
    seen = [next(one), next(one), next(two)]
    half()
    seen += [one.send(5), next(one), next(two)]
    one.close()
    return seen, closed


@program
def deep_recursion(half: Half) -> object:
    def down(depth: int) -> int:
        if depth == 0:
            half()
            return 1
        return down(depth - 1) + depth

    return down(700)


@program
def an_exception_on_its_way(half: Half) -> object:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            half()
            raise ValueError("second") from None
        finally:
            os.stat("/tmp")
    except ValueError as error:
        return repr(error), repr(error.__context__)


@program
def tasks(half: Half) -> object:
    async def tick(number: int, gate: asyncio.Event) -> int:
        await asyncio.sleep(0.3 + number / 100)
        await gate.wait()
        return number

    async def main() -> list[int]:
        gate = asyncio.Event()
        waiting = [asyncio.create_task(tick(number, gate)) for number in range(10)]
        await asyncio.sleep(0.1)
        half()
        gate.set()
        return await asyncio.gather(*waiting)

    return asyncio.run(main())


@program
def big_arrays(half: Half) -> object:
    numbers = array.array("Q", range(4 * MIB))
    holes = mmap.mmap(-1, 64 * MIB)
    holes[40 * MIB] = 7
    half()
    return sum(numbers[::1000]), holes[40 * MIB], holes[39 * MIB], hashlib.sha256(numbers).hexdigest()


@program
def digests_and_streams(half: Half) -> object:
    digest, packer = hashlib.sha512(), zlib.compressobj()
    digest.update(b"a" * 100000)
    packed = packer.compress(b"abc" * 100000)
    half()
    digest.update(b"b")
    packed += packer.compress(b"d" * 10) + packer.flush()
    return digest.hexdigest(), hashlib.sha256(zlib.decompress(packed)).hexdigest()


@program
def a_transaction(half: Half) -> object:
    base = sqlite3.connect("/tmp/base.db")
    base.execute("create table t (n)")
    base.commit()
    base.executemany("insert into t values (?)", [(n,) for n in range(1000)])
    half()
    base.execute("insert into t values (5000)")
    base.commit()
    other = sqlite3.connect("/tmp/base.db")
    return other.execute("select count(*), sum(n) from t").fetchall()


@program
def contexts(half: Half) -> object:
    local, variable = threading.local(), contextvars.ContextVar("v", default=0)
    local.x = 5
    variable.set(6)
    decimal.getcontext().prec = 40
    half()
    return local.x, variable.get(), str(decimal.Decimal(1) / 7)


@program
def a_seeded_generator(half: Half) -> object:
    mine = random.Random(5)
    state = pickle.dumps(mine)
    half()
    return pickle.loads(state).random()


@program
def what_a_process_has_set(half: Half) -> object:
    os.mkdir("/tmp/somewhere")
    os.chdir("/tmp/somewhere")
    os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
    copy = os.dup2(1, 77)
    half()
    try:
        os.dup2(1, 150)
        refused = "nothing"
    except OSError as error:
        refused = errno.errorcode[error.errno or 0]
    return os.getcwd(), oct(os.umask(0)), os.get_inheritable(copy), refused


def registers(half: Half) -> object:
    """A program in C keeps every vector register live meanwhile."""
    with subprocess.Popen(["/programs/registers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        ready = child.stdout.readline()
        half()
        child.stdin.close()
        return ready, child.stdout.read()


def main(channel: str) -> None:
    if os.path.exists("/programs/registers"):
        program(registers)
    arrived, gone_on = os.pipe(), os.pipe()
    running = []
    for name, body in PROGRAMS.items():
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            running.append((name, pid, reading))
            continue

        been: list[bool] = []

        def half(been: list[bool] = been) -> None:
            been.append(True)
            os.write(arrived[1], b"x")
            os.read(gone_on[0], 1)

        try:
            said = repr(body(half))
        except BaseException:
            said = traceback.format_exc()
            if not been:
                half()
        os.write(writing, said.encode())
        os._exit(0)
    with open(channel, "rb", buffering=0) as control:
        for _ in running:
            os.read(arrived[0], 1)
        print("half", len(running), flush=True)
        control.read(1)
    os.write(gone_on[1], b"x" * len(running))
    for name, pid, reading in running:
        heard = b""
        while data := os.read(reading, 65536):
            heard += data
        os.waitpid(pid, 0)
        print(f"{name}: {heard.decode()}")


if __name__ == "__main__":
    main(sys.argv[1])
