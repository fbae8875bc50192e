"""Servers that tests talk to over HTTP."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from kasoku.sdk.remote import Gateway

ROOT = Path(__file__).resolve().parent.parent
DOUBLES = ROOT / "tests" / "doubles"


class Server:
    """A running server and what it left on the machine."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, home: Path, real: bool) -> None:
        self.process = process
        self.url = url
        self.home = home
        self.real = real
        """Whether it boots virtual machines; else it runs twins."""
        self.gateway = Gateway.find(home, timeout=120)
        ids = [d["id"] for d in self.gateway.json("GET", "/v1/devices")["devices"]]
        self.device = f"opencl:{ids[0]}" if ids else "none"
        """One device, as a function asks for exactly this one."""

    def deploy(self, name: str, source: str, handler: str = "function.handler", **options: Any) -> dict[str, Any]:
        """Deploy one file, `function.py`."""
        answer = self.gateway.json(
            "PUT", f"/v1/functions/{name}", deployment({"function.py": source}, handler, **options)
        )
        assert isinstance(answer, dict)
        return answer

    def call(self, name: str, event: Any = None) -> Any:
        """Invoke over the native route; the whole answer."""
        return self.gateway.invoke(name, {} if event is None else event)

    def instances(self) -> list[dict[str, Any]]:
        listed = self.gateway.json("GET", "/v1/instances")
        assert isinstance(listed, list)
        return listed

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def children(self) -> set[int]:
        """Processes under the server."""
        return descendants(self.process.pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


def deployment(files: dict[str, str], handler: str, **options: Any) -> dict[str, Any]:
    """The body of a deployment."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, textwrap.dedent(text))
    return deployment_of_zip(buffer.getvalue(), handler, options)


def deployment_of_zip(data: bytes, handler: str, options: dict[str, Any]) -> dict[str, Any]:
    """The body of a deployment whose code is a zip already."""
    return {"handler": handler, "options": options, "code": {"zip": base64.b64encode(data).decode()}}


def descendants(pid: int) -> set[int]:
    """All processes under one."""
    found: set[int] = set()
    queue = [pid]
    while queue:
        try:
            tasks = list(Path(f"/proc/{queue.pop()}/task").iterdir())
            children = {int(child) for task in tasks for child in (task / "children").read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            continue
        found |= children
        queue += children
    return found


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        time.sleep(0.02)


def start(command: list[str], home: Path, real: bool) -> Server:
    """Run a server until it has said where it listens."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found, "the server did not start"
    return Server(process, found[0], home, real)


def start_twin(home: Path, native: Path, *host: str) -> Server:
    """A server with twins of VM, broker and image store."""
    return start([str(DOUBLES / "server.py"), str(home), str(native), *host], home, real=False)


def start_real(home: Path, *, snapshots: bool = False) -> Server:
    """`kasoku up`. Snapshots are made in virtual machines that tests of other things do not expect."""
    option = "--snapshots" if snapshots else "--no-snapshots"
    shared = str(home if home.exists() else share_layers(home))
    return start(["-m", "kasoku.cli", "up", "--port", "0", "--home", shared, option], home, real=True)


def share_layers(home: Path) -> Path:
    """A state directory that has its layers in common with all others of this checkout: building them takes long."""
    shared = ROOT / "build" / "test-layers"
    shared.mkdir(parents=True, exist_ok=True)
    if not home.exists():  # a server that is started again has its own already
        home.mkdir(parents=True)
        (home / "layers").symlink_to(shared)
    return home


@pytest.fixture(scope="session")
def twin_binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the twins under the names of the real binaries, run by this interpreter."""
    folder = tmp_path_factory.mktemp("native")
    for name in ("kasoku-vmm", "kasoku-broker"):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {DOUBLES / name} "$@"\n')
        (folder / name).chmod(0o755)
    (folder / "runtime.erofs").write_text(json.dumps({"at": "/usr/lib/kasoku"}))
    return folder


@pytest.fixture(scope="module")
def twin(twin_binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this test module that runs twins: for what does not depend on a VM."""
    running = start_twin(tmp_path_factory.mktemp("home"), twin_binaries)
    yield running
    running.stop()


@pytest.fixture(scope="module", params=["twin", "vm"])
def server(
    request: pytest.FixtureRequest, twin_binaries: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of this test module, once with twins, once with real virtual machines: they must behave alike."""
    home = tmp_path_factory.mktemp("home") / "home"
    running = start_real(home) if request.param == "vm" else start_twin(home, twin_binaries)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this test module with real virtual machines."""
    running = start_real(tmp_path_factory.mktemp("home") / "home")
    yield running
    running.stop()


@pytest.fixture(params=["twin", "vm"])
def own_server(request: pytest.FixtureRequest, twin_binaries: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of one test, which may kill it."""
    home = tmp_path / "home"
    running = start_real(home) if request.param == "vm" else start_twin(home, twin_binaries)
    yield running
    running.stop()


# The same examples on every run, as long as they take: a failure belongs to the change at hand.
settings.register_profile("usual", derandomize=True, deadline=None)
settings.load_profile("usual")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How thorough tests are."""
    parser.addoption(
        "--sequences", type=int, help="new random sequences of system calls to compare (default: 500, always the same)"
    )
    parser.addoption("--soak", type=float, default=60.0, help="seconds of the load that goes on")
    parser.addoption("--instances", type=int, default=500, help="instances that are restored, called and ended")
    parser.addoption("--clones", type=int, default=200, help="clones of one snapshot whose random bytes are compared")
