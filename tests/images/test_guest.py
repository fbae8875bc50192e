"""Images as guests see them: built here, run in real virtual machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kasoku.images.store import DEFAULT_ENVIRONMENT, ImageStore

from .wheelhouse import make_wheel

KASOKU = Path(sys.prefix) / "bin" / "kasoku"

pytestmark = pytest.mark.skipif(
    not (os.access("/dev/kvm", os.R_OK | os.W_OK) and KASOKU.is_file()), reason="no virtual machine can be started here"
)


def run(store: ImageStore, name: str, *program: str) -> subprocess.CompletedProcess[str]:
    home = store.images.parent
    command = [str(KASOKU), "exec", "--home", str(home), "--image", name, "--", *program]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_python_wheels_and_a_tree(store: ImageStore, index: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/data.bin").write_bytes(bytes(range(256)) * 20_000)
    (tree / "link").symlink_to("deep/er/data.bin")
    (tree / "main.py").write_text(
        "import hashlib, json, os, packed, ssl, sys, zoneinfo\n"
        "print(json.dumps({'sum': hashlib.sha256(open('/srv/link', 'rb').read()).hexdigest(),\n"
        "    'value': packed.VALUE, 'cached': packed.__cached__, 'prefix': sys.prefix, 'version': sys.version,\n"
        "    'zone': str(zoneinfo.ZoneInfo('Asia/Tokyo')), 'env': os.environ['WHO'], 'cwd': os.getcwd(),\n"
        "    'mode': oct(os.stat('/tmp').st_mode)}))\n"
    )
    make_wheel(index, "packed", {"packed.py": "VALUE = 42\n"}, entry_points="[console_scripts]\npacked = packed:main\n")
    layers = [
        store.ensure_python_layer(),
        store.ensure_requirements_layer(["packed"]),
        store.build_tree_layer(tree, "/srv"),
    ]
    store.save("all", layers, env={**DEFAULT_ENVIRONMENT, "WHO": "the image"}, cwd="/srv", args=["python3", "main.py"])
    done = run(store, "all")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    native = subprocess.run(["sha256sum", tree / "link"], capture_output=True, text=True, check=True)
    assert seen["sum"] == native.stdout.split()[0]
    assert (seen["value"], seen["env"], seen["cwd"]) == (42, "the image", "/srv")
    assert (seen["prefix"], seen["version"]) == ("/usr/local", sys.version)
    assert seen["cached"].startswith("/usr/local/")
    assert seen["mode"] == "0o41777"


def test_upper_layers_win_and_directories_merge(store: ImageStore, tmp_path: Path) -> None:
    for name, files in {"lower": {"a": "lower", "b": "lower"}, "upper": {"b": "upper", "c": "upper"}}.items():
        (tmp_path / name / "etc").mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / name / "etc" / file).write_text(content + "\n")
    layers = [store.ensure_python_layer(), *(store.build_tree_layer(tmp_path / n, "/") for n in ("lower", "upper"))]
    store.save("stacked", layers)
    done = run(store, "stacked", "cat", "/etc/a", "/etc/b", "/etc/c", "/etc/passwd")
    assert done.stdout.splitlines()[:3] == ["lower", "upper", "upper"]
    assert done.stdout.splitlines()[3].startswith("root:")


def test_corrupt_and_missing_layers_are_errors_that_name_them(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    layer = store.build_tree_layer(tmp_path / "tree", "/")
    store.save("broken", [layer], args=["x"])
    path = store.layer_path(layer.digest)
    path.chmod(0o644)
    os.truncate(path, 4096)
    done = run(store, "broken")
    assert done.returncode == 125
    assert layer.hex in done.stderr
    path.unlink()
    done = run(store, "broken")
    assert done.returncode == 125
    assert layer.hex in done.stderr


def test_a_layer_of_garbage_ends_this_guest_alone(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    layer = store.build_tree_layer(tmp_path / "tree", "/")
    store.save("garbage", [layer], args=["x"])
    path = store.layer_path(layer.digest)
    path.chmod(0o644)
    path.write_bytes(os.urandom(layer.size))
    done = run(store, "garbage")
    assert done.returncode == 125
    assert "not an EROFS image" in done.stderr
