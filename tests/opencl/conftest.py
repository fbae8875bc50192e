"""Leases for tests that use OpenCL: every test runs on each implementation that this machine has."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kasoku.node.errors import PlatformError
from tests.opencl import sessions


@pytest.fixture(scope="session")
def driver() -> Path:
    return sessions.library()


def _device_ids() -> list[str]:
    try:
        return [str(device["id"]) for device in sessions.devices()]
    except PlatformError:
        return []


@pytest.fixture(scope="session")
def seed() -> int:
    chosen = random.SystemRandom().randrange(1 << 32)
    print(f"seed {chosen}")
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", _device_ids() or [pytest.param("none", marks=pytest.mark.skip("no device"))])


@pytest.fixture
def lease(device: str, tmp_path: Path) -> Iterator[sessions.Session]:
    # A folder of its own for locks: tests that run at the same time share the device.
    with sessions.session(device, tmp_path / "leases") as held:
        yield held
