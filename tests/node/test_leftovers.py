"""Many invocations, then nothing: no process, descriptor, lease, or shared memory. Also when the agent is killed."""

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kasoku.sdk.errors import ServiceError
from tests.conftest import Server, descendants, eventually

FUNCTION = "import os\ndef handler(event, context):\n    return [event, os.getpid()]\n"


def quiet(server: Server) -> None:
    eventually(lambda: not server.instances(), "no instance")
    eventually(lambda: not server.children(), "no process")


def test_fifty_sequential_and_eight_concurrent(own_server: Server) -> None:
    server = own_server
    others = set(Path("/dev/shm").iterdir())
    server.deploy("work", FUNCTION, accelerator=own_server.device, idle_timeout=0.2)
    server.deploy("free", FUNCTION, idle_timeout=0.2)
    server.call("work")
    server.call("free")
    quiet(server)
    before = server.descriptors()
    for number in range(50):
        assert server.call("work", number).result[0] == number
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: server.call("free", n).result, range(8)))
        more = list(pool.map(lambda n: server.call("work", n).result, range(8)))
    assert [a[0] for a in answers] == [a[0] for a in more] == list(range(8))
    assert len({a[1] for a in more}) == 1, "one device, one instance"
    quiet(server)
    eventually(lambda: server.descriptors() <= before, f"{before} descriptors")
    devices = server.gateway.json("GET", "/v1/devices")["devices"]
    assert all(d["held_by"] is None and d["waiting"] == 0 for d in devices)
    assert not locked(server.home)
    assert not {p for p in Path("/dev/shm").iterdir() if "kasoku" in p.name} - others


def test_the_agent_is_killed(own_server: Server) -> None:
    server = own_server
    server.deploy("work", FUNCTION, accelerator=own_server.device)
    server.deploy("busy", "import time\ndef handler(event, context):\n    time.sleep(1000)\n", timeout=2000)
    server.call("work")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.call, "busy")
        eventually(lambda: any(i["state"] == "busy" for i in server.instances()), "busy")
        children = server.children()
        assert len(children) >= 4 and locked(server.home)
        server.kill()
        assert waiting.exception() is not None
    eventually(lambda: not [pid for pid in children if alive(pid)], "no process")
    eventually(lambda: not locked(server.home), "no lease")


def test_sigterm_ends_everything(own_server: Server) -> None:
    own_server.deploy("work", FUNCTION, accelerator=own_server.device)
    own_server.call("work")
    children = own_server.children()
    own_server.stop()
    assert own_server.process.returncode == 0
    assert not [pid for pid in children if alive(pid)]
    assert not (own_server.home / "run" / "gateway.json").exists()


def test_sigterm_tells_those_who_wait(own_server: Server) -> None:
    own_server.deploy("busy", "import time\ndef handler(event, context):\n    time.sleep(1000)\n", timeout=2000)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(own_server.call, "busy")
        eventually(lambda: any(i["state"] == "busy" for i in own_server.instances()), "busy")
        own_server.stop()
        with pytest.raises(ServiceError, match="shutting down"):
            waiting.result()


def test_a_second_server_on_the_same_directory_is_refused(own_server: Server) -> None:
    command = [sys.executable, "-m", "kasoku.cli", "up", "--port", "0", "--home", str(own_server.home)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1 and "runs on" in second.stderr


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def locked(home: Path) -> list[str]:
    """Devices whose lock is held."""
    held: list[str] = []
    for path in (home / "run" / "leases").glob("*.lock"):
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.name)
    return held


def test_descendants_are_found() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert process.pid in descendants(os.getpid())
        process.kill()
