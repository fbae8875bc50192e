"""Unmodified programs, natively and through the virtual library: the same answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.opencl import sessions
from tests.opencl.sessions import Session, answer, program, run_native, run_virtual

#: Where implementations differ from the specification or from each other, what the virtual library answers. A set holds
#: what either the device or the specification may say.
ALLOWED: dict[str, set[Any]] = {
    "devices: no type": {-31},
    "sub-buffer: host pointer flag": {-30},
    "map: unknown flag": {-30},
    "map: not allowed": {-59},
    "unmap: twice": {-30},
    "argument: local of 0": {0, -51},
    "argument: float4 of 12": {0, -51},
    "argument: structure of 4": {0, -51},
    "launch: local 0": {-54},
    "image: unknown order": {-39},
    "image: unknown channels": {-39},
    "image: a buffer's kind": {-65},
    "image: too wide": {-40},
    "image: a pitch without memory": {-65},
    "image: a short pitch": {-65},
    "image: memory that nobody asked for": {-37},
    "sampler: unknown addressing": {-30},
    "sampler: unknown filter": {-30},
    "read: short pitch": {-30},
    "fill: no colour": {-30},
    "info: of a buffer": {-38},
    # NVIDIA's: another error than the specification's, or none.
    "read: a buffer": {-38},
    "map: no pitch": {-30},
}
#: The same for programs that are compiled and linked apart.
LINKING: dict[str, tuple[Any, ...]] = {"compile: kernels exist": (-59, 0), "compile: option": (-66,)}


def test_compute(lease: Session, device: str, driver: Path, tmp_path: Path, seed: int) -> None:
    command = program("compute", seed, tmp_path / "headers")
    virtual = answer(run_virtual(command, lease, driver, tmp_path))
    assert all(virtual["checks"].values()), virtual
    assert virtual == answer(run_native(command, device, tmp_path))


def test_events_and_threads(lease: Session, device: str, driver: Path, tmp_path: Path) -> None:
    virtual = answer(run_virtual(program("events"), lease, driver, tmp_path))
    assert all(virtual["checks"].values()), virtual
    assert virtual == answer(run_native(program("events"), device, tmp_path))


def test_shared_virtual_memory(lease: Session, device: str, driver: Path, tmp_path: Path, seed: int) -> None:
    if not _is_processor(device):
        pytest.skip("kernels do not run on the host's processors")
    command = program("svm", seed)
    virtual = answer(run_virtual(command, lease, driver, tmp_path))
    assert all(virtual["checks"].values()), virtual
    native = _answer_unless_crashed(run_native(command, device, tmp_path))
    _compare_codes(virtual["codes"], native and native["codes"])


def _is_processor(device: str) -> bool:
    return any(device == found["id"] and found["kind"] == "cpu" for found in sessions.devices())


def test_images(lease: Session, device: str, driver: Path, tmp_path: Path, seed: int) -> None:
    virtual = answer(run_virtual(program("images", seed), lease, driver, tmp_path))
    _compare_images(virtual, answer(run_native(program("images", seed), device, tmp_path)))


def _compare_images(virtual: dict[str, Any], native: dict[str, Any]) -> None:
    """All answers are the vendor's, but for what the vendor's library refuses to do."""
    assert virtual.keys() == native.keys()
    wrong = {name: (value, native[name]) for name, value in virtual.items() if value != native[name] != "refused"}
    assert not wrong, f"(virtual, native): {wrong}"
    assert all(native.values())


def test_linking(lease: Session, device: str, driver: Path, tmp_path: Path) -> None:
    command = program("linking", tmp_path / "headers")
    virtual = answer(run_virtual(command, lease, driver, tmp_path))
    assert virtual.pop("arguments: reloaded"), "what arguments are comes with a binary"
    assert virtual.pop("kernel: compiled only") == -45
    native = answer(run_native(command, device, tmp_path))
    wrong = {
        name: (code, native[name]) for name, code in virtual.items() if code not in LINKING.get(name, (native[name],))
    }
    assert not wrong and len(virtual) + 2 == len(native), f"(virtual, native): {wrong}"


@pytest.mark.parametrize("name", ["errors", "image_errors"])
def test_error_codes(name: str, lease: Session, device: str, driver: Path, tmp_path: Path, seed: int) -> None:
    command = program(name, seed)
    virtual = answer(run_virtual(command, lease, driver, tmp_path))
    _compare_codes(virtual, _answer_unless_crashed(run_native(command, device, tmp_path)))


def _answer_unless_crashed(finished: subprocess.CompletedProcess[str]) -> dict[str, Any] | None:
    return None if finished.returncode == -signal.SIGSEGV else answer(finished)


def _compare_codes(virtual: dict[str, Any], native: dict[str, Any] | None) -> None:
    """What wrong calls answer, against the vendor's library. Where that crashes, there is nothing to compare."""
    native = virtual if native is None else native
    wrong = {
        name: (code, native[name]) for name, code in virtual.items() if code not in ALLOWED.get(name, [native[name]])
    }
    assert not wrong, f"(virtual, native): {wrong}"


def _no_virtual_machines() -> bool:
    return not sessions.KASOKU.exists() or not os.access("/dev/kvm", os.R_OK | os.W_OK)


@pytest.mark.skipif(_no_virtual_machines(), reason="needs `make setup` and /dev/kvm")
@pytest.mark.parametrize("name", ["compute", "events", "errors", "images", "svm"])
def test_in_a_virtual_machine(name: str, device: str, tmp_path: Path, seed: int) -> None:
    """The whole path: guest, ring, broker."""
    arguments = {"compute": (seed, "/tmp/headers"), "images": (seed,), "svm": (seed,)}.get(name, ())
    if name == "svm" and not _is_processor(device):
        pytest.skip("kernels do not run on the host's processors")
    command = program(name, *arguments)
    guest = answer(sessions.run_guest(command, device, tmp_path))
    if name == "images":
        _compare_images(guest, answer(run_native(command, device, tmp_path)))
    elif name == "errors":
        _compare_codes(guest, _answer_unless_crashed(run_native(command, device, tmp_path)))
    else:
        assert all(guest["checks"].values()), guest


def test_buffers_beyond_the_arena(device: str, driver: Path, tmp_path: Path, seed: int) -> None:
    with sessions.session(device, tmp_path / "leases", memory_mib=16) as lease:
        virtual = answer(run_virtual(program("large", seed, 40), lease, driver, tmp_path))
    assert all(virtual["checks"].values()), virtual


@pytest.mark.skipif(shutil.which("clinfo") is None, reason="clinfo is not installed")
def test_clinfo(lease: Session, device: str, driver: Path, tmp_path: Path) -> None:
    native = run_native(["clinfo"], device, tmp_path)
    if re.search(r"Number of platforms\s+0", native.stdout):
        pytest.skip("clinfo's loader does not heed OCL_ICD_VENDORS")
    finished = run_virtual(["clinfo"], lease, driver, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"Platform Vendor\s+Kasoku", finished.stdout)
    assert re.search(r"Number of devices\s+1", finished.stdout)
    for field in ("Device Name", "Max compute units", "Max work group size", "Image support", "Max 2D image size"):
        values = [re.search(rf"{field}\s+(.*)", text) for text in (finished.stdout, native.stdout)]
        assert values[0] and values[1] and values[0][1] == values[1][1], field


def test_handles_of_any_kind(lease: Session, driver: Path, tmp_path: Path) -> None:
    """Straight into the library: an ICD loader would follow a wild handle itself."""
    codes = answer(run_virtual(program("handles", driver), lease, driver, tmp_path))
    assert codes and not any(codes.values()), codes


def test_a_broker_that_dies(lease: Session, driver: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    timer = threading.Thread(target=_kill_when, args=(ready, lease))
    timer.start()
    finished = run_virtual(program("orphan", ready), lease, driver, tmp_path, timeout=60)
    timer.join()
    codes = answer(finished)
    # Calls that wait: out of resources; later ones: device not available.
    assert codes["waiting"] == -5, codes
    assert set(codes["later"].values()) == {-2}, codes


def test_a_session_that_outlives_its_worker(device: str, driver: Path, tmp_path: Path) -> None:
    ready, killed = tmp_path / "ready", tmp_path / "killed"
    with sessions.session(device, tmp_path / "leases", more=["--recover", "16"]) as lease, ThreadPoolExecutor() as pool:
        running = pool.submit(run_virtual, program("survivor", ready, killed), lease, driver, tmp_path)
        while not ready.exists() and not running.done():
            time.sleep(0.05)
        lease.kill_worker()
        killed.touch()
        told = lease.listen()
        assert told.get("recovered"), told
        checks = answer(running.result())
    assert all(checks.values()), checks


@pytest.mark.parametrize("name", ["compute", "images", "linking"])
def test_suspended_again_and_again(
    lease: Session, device: str, driver: Path, tmp_path: Path, seed: int, name: str
) -> None:
    """The device is taken away and given back while a program runs; it notices nothing."""
    arguments = {"compute": (seed, tmp_path / "headers"), "images": (seed,), "linking": (tmp_path / "headers",)}
    command = program(name, *arguments.get(name, ()))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run_virtual, command, lease, driver, tmp_path)
        suspended = 0
        while not running.done():
            told = lease.ask({"suspend": {"deadline_ms": 10_000}})
            # A program may hold its own commands up for a while: then the session stays where it is.
            if told.get("error") == "save":
                continue
            assert told.get("suspended"), told
            told = lease.ask({"resume": {}})
            assert told.get("ready"), told
            suspended += 1
    virtual = answer(running.result())
    assert suspended, virtual
    if name == "linking":
        expected = answer(run_virtual(command, lease, driver, tmp_path))
        assert virtual == expected
    else:
        assert all(virtual.get("checks", virtual).values()), virtual


def _kill_when(ready: Path, lease: Session) -> None:
    for _ in range(600):
        if ready.exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    lease.kill_worker()


def test_no_lease(driver: Path, tmp_path: Path) -> None:
    """Without a session there is no platform, as without any driver."""
    vendors = sessions.vendors(tmp_path / "none", driver)
    script = (
        "import pyopencl as cl\ntry: cl.get_platforms()\nexcept cl.LogicError as e: print('{\"code\": %d}' % e.code)"
    )
    finished = sessions.run([sys.executable, "-c", script], vendors, tmp_path)
    assert json.loads(finished.stdout) == {"code": -1001}


def test_needs_no_library(driver: Path) -> None:
    """The library loads under any C library: it asks for none, and exports nothing but OpenCL."""
    dynamic = sessions.run(["readelf", "-d", "-W", str(driver)], {}, driver.parent).stdout
    assert "(NEEDED)" not in dynamic
    symbols = sessions.run(["readelf", "--dyn-syms", "-W", str(driver)], {}, driver.parent).stdout
    rows = [line.split() for line in symbols.splitlines() if re.match(r"\s+\d+:", line)][1:]
    exported = {row[-1].split("@")[0] for row in rows if row[6] != "UND"}
    wanted = {row[-1] for row in rows if row[6] == "UND"}
    assert wanted == {"pthread_create", "pthread_detach"}
    assert all(name.startswith("cl") for name in exported)
    assert len(exported) > 120
