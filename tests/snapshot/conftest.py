"""Layers with the programs of these tests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kasoku.images.store import ImageStore
from kasoku.node.native import Native
from tests.conftest import share_layers

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The machine's Python, the programs under /programs, the runtime."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no virtual machine can be started here")
    home = tmp_path_factory.mktemp("snapshot")
    store = ImageStore(share_layers(home / "home"))
    tree = home / "programs"
    shutil.copytree(PROGRAMS, tree)
    for source in tree.glob("*.c"):
        subprocess.run(["cc", "-O1", "-static", "-pthread", "-w", "-o", source.with_suffix(""), source], check=True)
    built = [store.ensure_python_layer(), store.build_tree_layer(tree, "/programs")]
    return [*(store.layer_path(layer.digest) for layer in built), Native().runtime_layer]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter inside a guest."""
    return ImageStore(tmp_path_factory.mktemp("store")).python_executable
