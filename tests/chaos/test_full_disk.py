"""The disk is full: calls are refused and not lost, what runs goes on, and when there is room again so is everything.

The state directory is a small file system of its own, in a mount namespace that only the server sees; needs root.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kasoku.sdk.errors import ServiceError
from tests.conftest import DOUBLES, ROOT, Server, eventually

SIZE = "6m"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
SOURCE = "def handler(event, context):\n    print('x' * 100)\n    return event\n"


@pytest.fixture
def cramped(twin_binaries: Path, tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "home"
    home.mkdir()
    mount = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
    server = [sys.executable, str(DOUBLES / "server.py"), str(home), str(twin_binaries)]
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", SIZE, str(home), *server]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout
    line = process.stdout.readline()
    if not (found := re.search(r"http://\S+", line)):
        process.wait()
        pytest.skip("this user may not mount")
    # `exec` all the way: the process is the server, and its root shows the file system that it sees.
    running = Server(process, found[0], Path(f"/proc/{process.pid}/root{home}"), real=False)
    yield running
    running.stop()


def test_a_full_disk_refuses_and_loses_nothing(cramped: Server) -> None:
    cramped.deploy("work", SOURCE)
    accepted: dict[str, Any] = {cramped.gateway.spawn("work", n): n for n in range(5)}
    ballast = cramped.home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    refused = 0
    for number in range(100, 140):
        try:
            accepted[cramped.gateway.spawn("work", "x" * 4000)] = "x" * 4000
        except ServiceError as error:
            assert error.status == 500 and "cannot be written" in str(error)
            refused += 1
        assert cramped.call("work", number).result == number, "calls that need no disk are served"
    assert refused, "the disk was full"
    with pytest.raises(ServiceError):
        cramped.deploy("other", SOURCE + "#" * 500_000)
    assert cramped.process.poll() is None
    ballast.unlink()
    eventually(lambda: spawned(cramped), "calls are accepted again")
    for id, event in accepted.items():
        told = cramped.gateway.json("GET", f"/v1/calls/{id}?wait=60")
        assert (told["state"], told["result"]) == ("done", event)
    cramped.deploy("other", SOURCE)
    assert cramped.call("other", 1).result == 1


def spawned(server: Server) -> bool:
    try:
        return bool(server.gateway.spawn("work", 1))
    except ServiceError:
        return False
