"""`kasoku image`, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kasoku.cli", "image", *map(str, arguments), "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "file").write_text("content")
    return folder


def test_build_list_inspect_remove(tmp_path: Path, tree: Path) -> None:
    home = tmp_path / "home"
    built = run(home, "build", "first", "--tree", f"{tree}:/srv", "-e", "A=b=c", "-w", "/srv")
    assert built.returncode == 0, built.stderr
    assert str(tree) in built.stdout
    listed = json.loads(run(home, "ls", "--json").stdout)
    assert [image["name"] for image in listed] == ["first"]
    assert listed[0]["env"]["A"] == "b=c"
    inspected = run(home, "inspect", "first")
    assert inspected.returncode == 0 and "verified" in inspected.stdout
    assert run(home, "rm", "first").returncode == 0
    assert json.loads(run(home, "ls", "--json").stdout) == []


def test_corrupt_layer_makes_inspect_fail(tmp_path: Path, tree: Path) -> None:
    home = tmp_path / "home"
    run(home, "build", "name", "--tree", tree)
    (layer,) = (home / "layers").glob("*.erofs")
    layer.chmod(0o644)
    with layer.open("r+b") as file:
        file.write(b"\x01")
    inspected = run(home, "inspect", "name")
    assert inspected.returncode == 1
    assert "corrupt" in inspected.stderr and "Traceback" not in inspected.stderr
    layer.unlink()
    inspected = run(home, "inspect", "name")
    assert inspected.returncode == 1 and "missing" in inspected.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "name"], "name --python"),
        (["build", "Bad Name", "--tree", "."], "cannot name an image"),
        (["build", "name", "--tree", "/no/such/folder"], "not a directory"),
        (["build", "name", "--requirements", "/no/such/file"], "cannot be read"),
        (["build", "name", "--tree", ".", "--env", "X"], "NAME=VALUE"),
        (["inspect", "missing"], "there is no image"),
        (["rm", "missing"], "there is no image"),
        (["inspect", "../x"], "cannot name an image"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(tmp_path / "home", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
