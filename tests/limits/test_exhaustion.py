"""A guest that uses up what it has is told so by the error that Linux has for it, and goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KASOKU = Path(sys.executable).parent / "kasoku"
PROGRAM = Path(__file__).resolve().parent.parent / "programs" / "c" / "exhaust.c"
MEMORY_MIB = 128

#: What is used up, and what the program says. All of it is what Linux says, too.
CASES = {
    "descriptors": "open: EMFILE\npipe: EMFILE\nsocketpair: EMFILE\ndup: EMFILE\nlast 1023\nagain: 3\n",
    "threads": "pthread_create: EAGAIN\nmore than 100: 1, again: 0\n",
    "processes": "fork: EAGAIN\nmore than 50: 1, again: 5\n",
    "memory": "mmap: ENOMEM\nmalloc: ENOMEM\n" + 3 * "ended for it: 1\n" + "16 MiB again\n",
    "files": 2 * "write: ENOSPC\nfsync: no limit\n" + "create: ENOSPC\nmany files: 1, rmdir: 0\n",
    "pipes": "pipe: EMFILE\nagain: 0\n",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exhaust")
    subprocess.run(["cc", "-O1", "-w", "-static", "-pthread", "-o", folder / "exhaust", PROGRAM], check=True)
    return folder


@pytest.mark.parametrize("resource", CASES)
def test_using_up(program: Path, resource: str) -> None:
    command = [
        str(KASOKU),
        "exec",
        "--mem",
        str(MEMORY_MIB),
        "--mount",
        f"{program}:/t:ro",
        "--",
        "/t/exhaust",
        resource,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, CASES[resource] + "goes on\n"), done.stderr
