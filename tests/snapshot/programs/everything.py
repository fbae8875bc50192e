"""As everything.c, with what Python programs are made of, until channel 3 says so as well."""

import asyncio
import hashlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

work: "queue.Queue[int]" = queue.Queue()
answers: "queue.Queue[int]" = queue.Queue()


def worker() -> None:
    while (item := work.get()) >= 0:
        answers.put(item * item)


def squares() -> Iterator[int]:
    for number in range(10):
        yield number * number


threads = [threading.Thread(target=worker) for _ in range(3)]
for thread in threads:
    thread.start()
told = threading.Event()


def listen() -> None:
    with open("/dev/kasoku/invoke", "rb", buffering=0) as channel:
        channel.read(1)
    told.set()


listener = threading.Thread(target=listen)
listener.start()
generator = squares()
taken = [next(generator) for _ in range(4)]
big = bytearray(b"x" * 30_000_000)
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert child.stdin and child.stdout
child.stdin.write(b"before ")
child.stdin.flush()
with open("/tmp/lines", "w+") as file:
    file.write("one\ntwo\nthree\n")
    file.seek(4)
    with open("/dev/kasoku/touched", "wb", buffering=0) as touched:  # memory moves under all of it
        touched.write(b"note")
        again = [str(number) for number in range(100_000)]
        touched.write(b"pack")
    assert again[-1] == "99999"
    print("half", flush=True)
    digest = hashlib.sha256(big[:100_000])
    while not told.is_set():
        digest = hashlib.sha256(big[:100_000])
    listener.join()
    print(digest.hexdigest())
    print("read", file.readline().strip())


async def tick(port: int) -> str:
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    return (await reader.readline()).decode().strip()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(await asyncio.gather(*(tick(server.sockets[0].getsockname()[1]) for _ in range(3))))
    server.close()


asyncio.run(main())
for number in range(5):
    work.put(number)
print(sorted(answers.get() for _ in range(5)))
for _ in threads:
    work.put(-1)
for thread in threads:
    thread.join()
print(taken, list(generator))
child.stdin.write(b"after")
child.stdin.close()
print(child.stdout.read(), child.wait())
print(sum(big) % 1000, sys.getsizeof(big) > len(big))
