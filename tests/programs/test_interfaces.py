"""What Linux promises about mappings of files, the start of programs, events and large directories.

The programs are compiled here, and say the same natively and in a guest."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kasoku.images.store import ImageStore

from .test_native import ENVIRONMENT, KASOKU, LIMIT_S, run
from .test_system_calls import build, inside


def natively(program: Path, folder: Path, *arguments: str) -> tuple[int, bytes, bytes]:
    """What a program does on the machine, in a directory that it may fill."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, env=ENVIRONMENT, timeout=LIMIT_S, cwd=folder, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "processors"), [("told", "1"), ("told", "2"), ("starts", "1"), ("starts", "2"), ("many", "1")]
)
def test_the_guest_says_what_the_machine_says(name: str, processors: str, tmp_path: Path) -> None:
    if name == "starts" and os.geteuid() != 0:
        pytest.skip("a guest's program is root, the tests' native run is not")
    program = build(name, tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    guest = run(inside(program, "--vcpus", processors, "-w", "/tmp"), b"")
    assert guest == natively(program, scratch)
    assert guest[0] == 0


def test_mappings_see_what_becomes_of_their_file(tmp_path: Path) -> None:
    """The file is a plain one, one of the machine's own below a guest's memory, and one of an image layer."""
    program = build("mapped", tmp_path)
    shell = shutil.which("bash", path=ENVIRONMENT["PATH"]) or "/bin/sh"
    copy = Path(shutil.copy(os.path.realpath(shell), tmp_path / "copy"))
    assert natively(program, tmp_path, str(copy)) == (0, b"good\n", b"")
    assert run([*inside(program, "-w", "/tmp"), shell], b"") == (0, b"good\n", b"")

    tree, home = tmp_path / "tree", tmp_path / "home"
    tree.mkdir()
    shutil.copy(os.path.realpath(shell), tree / "file")
    subprocess.run(
        ["cc", "-static", "-w", "-o", tree / "mapped", Path(__file__).parent / "sources/mapped.c"], check=True
    )
    store = ImageStore(home)
    store.save("mapped", [store.build_tree_layer(tree, "/m")], env={}, cwd="/", args=["/m/mapped"])
    command = [
        str(KASOKU),
        "exec",
        "--home",
        str(home),
        "--image",
        "mapped",
        "-w",
        "/tmp",
        "--",
        "/m/mapped",
        "/m/file",
    ]
    assert run(command, b"") == (0, b"good\n", b"")
