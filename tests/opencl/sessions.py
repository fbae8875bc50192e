"""Programs that use OpenCL, run twice on one device: natively, and through the virtual library and a broker.

There is no virtual machine here: the library, built with the feature `socket-transport`, runs in an ordinary process
that inherits the session's descriptors. What it says to the broker is what it says in a guest.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kasoku.node.broker import broker_environment
from kasoku.node.native import Native, opencl_library_path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
TARGET = ROOT / "target" / "socket-transport"
READY_SECONDS = 60


def library() -> Path:
    """The virtual library with its transport for tests: built when out of date, or the one that a bundle brought."""
    if brought := os.environ.get("KASOKU_TEST_OPENCL_LIBRARY"):
        return Path(brought)
    TARGET.mkdir(parents=True, exist_ok=True)
    with (TARGET / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["cargo", "build", "--quiet", "--locked", "--release", "-p", "kasoku-opencl"]
        subprocess.run(
            [*command, "--features", "socket-transport", "--target-dir", str(TARGET)], cwd=ROOT, check=True, timeout=600
        )
    return TARGET / "release" / "libkasoku_opencl.so"


def runtime_options() -> list[str]:
    """Where brokers look for OpenCL implementations besides the system's."""
    return ["--runtime-dir", opencl_library_path()]


def devices() -> list[dict[str, Any]]:
    """The devices of this machine, as the broker lists them."""
    command = [str(Native().broker), "list", *runtime_options()]
    listed = subprocess.run(command, capture_output=True, env=broker_environment(), check=True, timeout=120)
    found: list[dict[str, Any]] = json.loads(listed.stdout)
    return found


@dataclass
class Session:
    """A lease: the broker's process and the descriptors of its memory."""

    broker: subprocess.Popen[str]
    descriptors: tuple[int, int, int]
    control: socket.socket

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send the broker a request, as the holder of the lease does; its answer."""
        self.control.sendall(json.dumps(request).encode() + b"\n")
        return self.listen()

    def listen(self) -> dict[str, Any]:
        """What the broker says next."""
        ready, _, _ = select.select([self.control], [], [], READY_SECONDS)
        assert ready, "the broker says nothing"
        told: dict[str, Any] = json.loads(self.control.recv(64 * 1024))
        return told

    def kill_worker(self) -> None:
        """Kill what serves the device, as a kernel that crashes it would."""
        for pid in _children(self.broker.pid):
            os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    children = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text():
                children.append(int(status.parent.name))
    return children


@contextlib.contextmanager
def session(device: str, leases: Path, memory_mib: int = 64, more: Sequence[str] = ()) -> Iterator[Session]:
    """A lease of `device` with `memory_mib` of session memory; `more`: further options of the broker."""
    memory = os.memfd_create("session", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, memory_mib << 20)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    doorbell, wake = (os.eventfd(0, 0) for _ in range(2))
    ours, theirs = socket.socketpair()
    passed = (memory, doorbell, wake, theirs.fileno())
    names = ("--memory-fd", "--doorbell-fd", "--wake-fd", "--control-fd")
    numbers = [text for name, number in zip(names, passed, strict=True) for text in (name, str(number))]
    command = [str(Native().broker), "serve", "--device", device, *numbers, "--lease-dir", str(leases), *more]
    leases.mkdir(parents=True, exist_ok=True)
    broker = subprocess.Popen([*command, *runtime_options()], pass_fds=passed, env=broker_environment(), text=True)
    theirs.close()
    try:
        ready, _, _ = select.select([ours], [], [], READY_SECONDS)
        answer = json.loads(ours.recv(64 * 1024)) if ready else {"message": "no answer"}
        assert answer.get("ready"), f"the broker is not ready: {answer}"
        yield Session(broker, (memory, doorbell, wake), ours)
    finally:
        ours.close()
        try:
            broker.wait(20)
        except subprocess.TimeoutExpired:
            broker.kill()
            broker.wait()
        for descriptor in (memory, doorbell, wake):
            os.close(descriptor)


def run(
    arguments: Sequence[str],
    environment: dict[str, str],
    directory: Path,
    timeout: float = 120,
    descriptors: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program in `directory` with that environment and those further descriptors."""
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        arguments,
        check=False,
        env=environment,
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=directory,
    )


def vendors(directory: Path, driver: Path) -> dict[str, str]:
    """The environment in which `driver` is the only OpenCL driver."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "driver.icd").write_text(f"{driver}\n")
    # pyopencl's loader also looks beside itself; a directory of ours replaces both places.
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**environment, "OCL_ICD_VENDORS": str(directory), "PYOPENCL_NO_CACHE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run_virtual(
    arguments: Sequence[str], lease: Session, driver: Path, scratch: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program with the virtual library as its only OpenCL driver."""
    environment = vendors(scratch / "virtual", driver)
    environment["KASOKU_ACCEL_FDS"] = ",".join(map(str, lease.descriptors))
    return run(arguments, environment, scratch, timeout, lease.descriptors)


#: The launcher of this environment; it runs programs in virtual machines.
KASOKU = Path(sys.executable).parent / "kasoku"


def run_guest(
    arguments: Sequence[str], device: str, scratch: Path, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a program in a virtual machine with a lease of `device`."""
    return run_guest_with(["--accelerator", f"opencl:{device}"], arguments, scratch, timeout)


def run_guest_with(
    more: Sequence[str], arguments: Sequence[str], scratch: Path, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a program in a virtual machine with these further options of `kasoku exec`."""
    options = ["--home", str(scratch / "home"), "-e", "PYOPENCL_NO_CACHE=1", *more]
    # Wherever the tree lies: a guest that sees the machine's directories has a /tmp of its own.
    options += ["--mount", f"{ROOT}:{ROOT}:ro"]
    return run([str(KASOKU), "exec", *options, "--", *arguments], {"LANG": "C.UTF-8"}, scratch, timeout)


def native_driver(device: str) -> Path:
    """The vendor's own library for a device of that name."""
    if device.startswith("intel:"):
        return Path(opencl_library_path()) / "libintelocl.so"
    for icd in sorted(Path("/etc/OpenCL/vendors").glob("*.icd")):
        if device.split(":", 1)[0] in icd.name:
            return Path(icd.read_text().strip())
    raise AssertionError(f"no native driver is known for {device}")


def run_native(
    arguments: Sequence[str], device: str, scratch: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program with the vendor's library as its only OpenCL driver."""
    environment = vendors(scratch / "native", native_driver(device))
    environment["LD_LIBRARY_PATH"] = opencl_library_path()
    return run(arguments, environment, scratch, timeout)


def program(name: str, *arguments: object) -> list[str]:
    """The command that runs one of `programs/`."""
    return [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


def answer(finished: subprocess.CompletedProcess[str]) -> Any:
    """What a program printed as JSON, on its last line."""
    assert finished.returncode == 0, (
        f"status {finished.returncode}\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}"
    )
    return json.loads(finished.stdout.splitlines()[-1])
