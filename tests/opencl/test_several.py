"""Several accelerators in one guest, and accelerators that are said to be something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kasoku.node.errors import PlatformError
from tests.opencl import sessions
from tests.opencl.sessions import answer, program

pytestmark = pytest.mark.skipif(
    not sessions.KASOKU.exists() or not os.access("/dev/kvm", os.R_OK | os.W_OK),
    reason="needs `make setup` and /dev/kvm",
)
PARTS = 4


def _accelerators(*ids: str) -> list[str]:
    return [text for id in ids for text in ("--accelerator", f"opencl:{id}", "--arena", "64")]


def _cpu_devices() -> list[str]:
    return _found() or pytest.skip("this machine has no CPU implementation")


def _found() -> list[str]:
    try:
        return [str(device["id"]) for device in sessions.devices() if device["kind"] == "cpu"]
    except PlatformError:
        return []


def _processors() -> list[Any]:
    return _found() or [pytest.param("none", marks=pytest.mark.skip("no CPU implementation"))]


@pytest.mark.parametrize("whole", _processors())
def test_four_of_one_kind(whole: str, tmp_path: Path) -> None:
    """All are had, as devices of one platform that share contexts, and are GPUs where the program is told so."""
    options = [*_accelerators(*(f"{whole}.{part}" for part in range(PARTS))), "--cpu-devices", str(PARTS)]
    told = answer(sessions.run_guest_with([*options, "--present", "gpu"], program("several"), tmp_path))
    assert len(told["platforms"]) == 1 and told["right"] == [True] * PARTS, told
    assert list(told["together"].values()) == [True], told
    assert told["gpus"] == PARTS and told["foreign"] == -34, "objects of one are no objects of another"


def test_of_different_vendors(tmp_path: Path) -> None:
    """Each is a platform of its own, as natively."""
    chosen = _cpu_devices()
    told = answer(sessions.run_guest_with(_accelerators(*chosen), program("several"), tmp_path))
    assert len(set(told["platforms"])) == len(chosen) and all(told["right"]), told
    assert all(told["together"].values()), told
    assert told["gpus"] == 0


def test_all_or_none(tmp_path: Path) -> None:
    """What cannot be had is said, and nothing stays held."""
    whole = _cpu_devices()[0]
    twice = sessions.run_guest_with(_accelerators(whole, whole), program("several"), tmp_path)
    assert twice.returncode == 125 and "held by pid" in twice.stderr, twice
    told = answer(sessions.run_guest_with(_accelerators(whole), program("several"), tmp_path))
    assert told["right"] == [True] and told["foreign"] is None
