"""`isolation="invocation"`: what one caller's invocation leaves anywhere is not there for the next one."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, eventually, start_real
from tests.snapshot.test_functions import OPENCL, files, log, was_restored


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_real(tmp_path_factory.mktemp("home") / "home", snapshots=True)
    yield running
    running.stop()


HIDING = """
import ctypes, mmap, os, socket, subprocess, sys, threading, time
kept, cache = [], {}
pipe = os.pipe()
pair = socket.socketpair()
region = mmap.mmap(-1, 1 << 20)
handle = ctypes.create_string_buffer(4096)

def hide(text):
    data = text.encode()
    kept.append(bytearray(data * 100000))
    cache[text] = sys.intern(text + text)
    os.environ["CALLER"] = text
    region[:len(data)] = data
    handle.value = data
    with open("/tmp/of-the-caller", "wb") as file:
        file.write(data * 1000)
    os.makedirs("/tmp/" + text)
    deleted = open("/tmp/deleted", "wb+")
    deleted.write(data * 1000)
    deleted.flush()
    os.unlink("/tmp/deleted")
    kept.append(deleted)
    os.write(pipe[1], data)
    pair[0].send(data)
    thread = threading.Thread(target=lambda words=data: time.sleep(1000), name=text, daemon=True)
    thread.start()
    subprocess.Popen(["/bin/sleep", "1000"], env={"CALLER": text}) if os.path.exists("/bin/sleep") else None
    if os.fork() == 0:
        while True:
            time.sleep(1000)
    dropped = [bytes(data) + str(n).encode() for n in range(20000)]
    del dropped

def find():
    os.set_blocking(pipe[0], False)
    pair[1].setblocking(False)
    found = []
    if kept or cache: found.append("globals")
    if "CALLER" in os.environ: found.append("environment")
    if region[:16] != bytes(16): found.append("shared memory")
    if handle.value: found.append("heap")
    if os.listdir("/tmp"): found.append("tmpfs")
    for name, read in (("pipe", lambda: os.read(pipe[0], 100)), ("socket", lambda: pair[1].recv(100))):
        try:
            read()
            found.append(name)
        except BlockingIOError:
            pass
    if threading.active_count() > 1: found.append("thread")
    try:
        os.waitpid(-1, os.WNOHANG)
        found.append("child")
    except ChildProcessError:
        pass
    return found

count = 0
def handler(event, context):
    global count
    count += 1
    found = find()
    if event.get("hide"):
        hide(event["hide"])
    with open("/dev/kasoku/generation", "rb") as file:
        generation = int.from_bytes(file.read(), "little")
    return {"found": found, "count": count, "generation": generation, "random": os.urandom(16).hex(),
            "secret": os.environ.get("SECRET"), "clock": time.monotonic()}
"""


@pytest.mark.parametrize("vcpus", [1, 2])
def test_nothing_of_a_caller_is_left_for_the_next(server: Server, vcpus: int) -> None:
    name = f"hiding{vcpus}"
    options: dict[str, Any] = {"isolation": "invocation", "memory": 128, "vcpus": vcpus, "env": {"SECRET": "s"}}
    server.deploy(name, HIDING, idle_timeout=60, **options)
    eventually(lambda: was_restored_once(server, name), "a restored instance")
    answers = []
    for _ in range(6):
        marker = secrets.token_hex(16)
        answer = server.call(name, {"hide": marker})
        answers.append(answer)
        eventually(lambda: is_idle(server, name), "the instance is put back")
        if os.geteuid() == 0:
            assert not in_memory(answer.detail["instance"]["vmm_pid"], marker.encode()), "the host finds it"
    assert {answer.detail["instance"]["id"] for answer in answers} == {answers[0].detail["instance"]["id"]}
    results = [answer.result for answer in answers]
    assert [(result["found"], result["count"], result["secret"]) for result in results] == [([], 1, "s")] * 6
    for different in ("generation", "random"):
        assert len({result[different] for result in results}) == len(results)
    assert max(result["clock"] for result in results) - min(result["clock"] for result in results) < 30


def was_restored_once(server: Server, name: str) -> bool:
    assert "instances boot" not in log(server, name), log(server, name)
    return was_restored(server.call(name, {}))


def is_idle(server: Server, name: str) -> bool:
    listed = server.gateway.json("GET", "/v1/instances")
    return any(one["function"] == name and one["state"] == "idle" for one in listed)


def in_memory(pid: int, needle: bytes) -> bool:
    """Whether a process has the bytes anywhere in memory that it can write, guest memory included."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, access = line.split()[:2]
            if "w" not in access:
                continue
            start, end = (int(part, 16) for part in place.split("-"))
            for at in range(start, end, 1 << 24):
                try:
                    memory.seek(at)
                    if needle in memory.read(min(1 << 24, end - at)):
                        return True
                except (OSError, OverflowError):
                    continue
    return False


DEVICE = """
import numpy as np
import pyopencl as cl
context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=np.zeros(4096, np.uint8))
late = []
def handler(event, _):
    seen = np.empty(4096, np.uint8)
    cl.enqueue_copy(queue, seen, buffer)
    found = bool(seen.any()) or bool(late)
    data = np.frombuffer(event.encode().ljust(4096), np.uint8)
    cl.enqueue_copy(queue, buffer, data)
    late.append(cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=data))
    queue.finish()
    return found
"""


def test_what_a_caller_leaves_on_a_device_is_gone_as_well(server: Server) -> None:
    """Its arena, its buffers, and the processes that have run its kernels."""
    if server.device == "none":
        pytest.skip("no accelerator here")
    options: dict[str, Any] = {"isolation": "invocation", "accelerator": server.device, **OPENCL}
    server.deploy("device", DEVICE, idle_timeout=60, **options)
    # Nobody calls it before: its snapshot is made with a device that nobody wants.
    eventually(lambda: bool(files(server, "device")), "a snapshot", 120)
    answers = []
    for _ in range(4):
        marker = secrets.token_hex(16)
        answers.append(server.call("device", marker))
        eventually(lambda: is_idle(server, "device"), "the instance is put back")
        if os.geteuid() == 0:
            assert not in_memory(answers[-1].detail["instance"]["vmm_pid"], marker.encode()), "the host finds it"
    assert [answer.result for answer in answers] == [False] * 4
    assert len({answer.detail["instance"]["id"] for answer in answers}) == 1, log(server, "device")
    assert len({answer.detail["instance"]["broker_pid"] for answer in answers}) == 4
    server.gateway.json("DELETE", "/v1/functions/device")


def test_what_has_no_snapshot_serves_once(server: Server) -> None:
    source = "import os\nos.environ['KEY']\nseen = []\ndef handler(e, c):\n    seen.append(e)\n    return len(seen)\n"
    server.deploy("unsaved", source, isolation="invocation", env={"KEY": "k"}, memory=64)
    answers = [server.call("unsaved", n) for n in range(2)]
    assert [answer.result for answer in answers] == [1, 1]
    assert answers[0].detail["instance"]["id"] != answers[1].detail["instance"]["id"]
