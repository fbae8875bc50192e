"""A guest that destroys its own library OS ends with a report, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

KASOKU = Path(sys.executable).parent / "kasoku"
PROGRAM = Path(__file__).resolve().parent.parent / "programs" / "c" / "corrupt.c"
LIMIT_S = 60
#: Exit code of `kasoku exec` for a guest that crashed.
CRASHED = 125


class Neighbour:
    """Another guest, which says after each attack that it is well."""

    def __init__(self) -> None:
        command = [str(KASOKU), "exec", "-i", "--", "cat"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def echo(self, line: bytes) -> bytes:
        given, answer = self._pipes()
        given.write(line)
        return answer.readline()

    def end(self) -> int:
        self._pipes()[0].close()
        return self.process.wait(LIMIT_S)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self.process.stdin and self.process.stdout
        return self.process.stdin, self.process.stdout


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    guest = Neighbour()
    yield guest
    assert guest.end() == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corrupt")
    subprocess.run(["cc", "-O1", "-static", "-o", folder / "corrupt", PROGRAM], check=True)
    return folder


def attack(folder: Path, *how: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in a guest; it always ends, by itself or by its time limit."""
    options = ["--mem", "64", "--timeout", "10", "--mount", f"{folder}:/t:ro"]
    command = [str(KASOKU), "exec", *options, "--", "/t/corrupt", *how]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT_S)


@pytest.mark.parametrize("part", ["image", "code", "processor", "low", "everything"])
def test_a_destroyed_library_os_ends_its_own_guest_alone(program: Path, neighbour: Neighbour, part: str) -> None:
    done = attack(program, part)
    assert done.returncode == CRASHED, done
    assert "kasoku exec: the guest crashed: " in done.stderr or "the library OS failed" in done.stderr
    assert neighbour.echo(f"after {part}\n".encode()) == f"after {part}\n".encode()


@pytest.mark.parametrize("how", [("hypercalls",), *(("chance", str(seed)) for seed in range(1, 9))])
def test_whatever_a_guest_does_to_itself_the_monitor_ends_in_order(
    program: Path, neighbour: Neighbour, how: tuple[str, ...]
) -> None:
    done = attack(program, *how)
    # It may survive, end by a signal of its own, crash or hang; what it may not do is end the monitor.
    assert done.returncode >= 0, done
    assert done.returncode != CRASHED or "kasoku exec: the guest" in done.stderr or "library OS failed" in done.stderr
    assert neighbour.echo(b"well\n") == b"well\n"
