"""A node that offers its CPU device as several: as many holders at a time, each with a device of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Server, share_layers, start

PARTS = 4
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return context.accelerator\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    home = share_layers(tmp_path / "home")
    command = ["-m", "kasoku.cli", "up", "--port", "0", "--home", str(home), "--cpu-devices", str(PARTS)]
    running = start(command, home, real=True)
    yield running
    running.stop()


def test_every_part_has_a_holder(server: Server) -> None:
    listed = server.gateway.json("GET", "/v1/devices")["devices"]
    parts = [d["id"] for d in listed if d["kind"] == "cpu"]
    if not parts:
        pytest.skip("this machine has no CPU implementation")
    whole = parts[0].rsplit(".", 1)[0]
    expected = {f"{whole}.{number}" for number in range(PARTS)}
    assert expected <= set(parts)
    selector = f"opencl:{whole.split(':')[0]}"
    for number in range(PARTS):
        server.deploy(f"holder{number}", SLEEP, accelerator=selector, memory=128)
    with ThreadPoolExecutor() as pool:
        held = list(pool.map(lambda number: server.call(f"holder{number}", 2).result, range(PARTS)))
    assert {device.removeprefix("opencl:") for device in held} == expected
