"""The demo, as `make demo` runs it, and the example functions on every device of this machine."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kasoku.cli.bundle import bundle
from kasoku.sdk.errors import FunctionError
from kasoku.sdk.source import read_declarations
from tests.conftest import ROOT, Server, deployment_of_zip, eventually, share_layers, start_real


def test_the_demo(tmp_path: Path) -> None:
    home = share_layers(tmp_path / "home")
    command = [
        sys.executable,
        str(ROOT / "examples/demo.py"),
        "--home",
        str(home),
        "--picture",
        str(tmp_path / "m.png"),
    ]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("the same bits") == 2 and "Kasoku library OS" in demo.stdout
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_matmul_on_every_device(real: Server) -> None:
    file = ROOT / "examples" / "matmul.py"
    (declared,) = read_declarations(file)
    for device in real.gateway.json("GET", "/v1/devices")["devices"]:
        selector = f"opencl:{device['id']}"
        options = {**declared.options.to_json(), "accelerator": selector}
        body = deployment_of_zip(bundle(file, []), declared.handler, options)
        real.gateway.json("PUT", "/v1/functions/matmul", body)
        for size, seed in ((1, 1), (37, 2), (128, 3)):
            answer = real.call("matmul", {"size": size, "seed": seed})
            generator = np.random.default_rng(seed)
            a = generator.integers(-8, 8, (size, size)).astype(np.float32)
            b = generator.integers(-8, 8, (size, size)).astype(np.float32)
            assert answer.result["sha256"] == hashlib.sha256((a @ b).tobytes()).hexdigest()
            assert answer.detail["accelerator"] == selector
        with pytest.raises(FunctionError, match="size must be"):
            real.call("matmul", {"size": 0, "seed": 1})
        assert not real.call("matmul", {"size": 2, "seed": 1}).detail["cold"], "its own errors cost no instance"


def test_the_resident_model_answers_from_its_snapshot(tmp_path: Path) -> None:
    server = start_real(tmp_path / "home", snapshots=True)
    try:
        if server.device == "none":
            pytest.skip("no accelerator here")
        folder = ROOT / "examples" / "resident_model"
        (declared,) = read_declarations(folder / "model.py")
        options = {**declared.options.to_json(), "accelerator": server.device, "idle_timeout": 0}
        body = deployment_of_zip(bundle(folder / "model.py", []), declared.handler, options)
        server.gateway.json("PUT", "/v1/functions/resident-model", body)
        eventually(lambda: any((tmp_path / "home" / "snapshots").glob("*.snapshot")), "a snapshot")
        environment = {**os.environ, "KASOKU_URL": server.gateway.url, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(folder / "check.py"), "3"]
        check = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert check.returncode == 0, check.stdout + check.stderr
        assert check.stdout.count("restore") == 3, check.stdout
    finally:
        server.stop()
