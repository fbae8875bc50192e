"""System calls that are none any more: the vDSO, and sites that became jumps. The programs are compiled here
and say the same natively and in the guest."""

import shutil
import subprocess
from pathlib import Path

import pytest

from .test_native import KASOKU, run

SOURCES = Path(__file__).parent / "sources"


def build(name: str, folder: Path) -> Path:
    """Compiles a program of `sources/`; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler on this machine (cc)")
    program = folder / name
    command = [compiler, "-O2", "-Wall", "-Werror", "-pthread", "-o", str(program), str(SOURCES / f"{name}.c"), "-ldl"]
    subprocess.run(command, check=True)
    folder.chmod(0o755)
    return program


def inside(program: Path, *options: str) -> list[str]:
    """The command that runs a compiled program in a guest."""
    return [str(KASOKU), "exec", *options, "--mount", f"{program.parent}:/bench:ro", "--", f"/bench/{program.name}"]


def test_programs_find_the_vdso_and_its_clocks_are_right(tmp_path: Path) -> None:
    program = build("vdso", tmp_path)
    assert run([str(program)], b"") == run(inside(program), b"") == (0, b"good\n", b"")


def test_the_c_library_reads_clocks_without_system_calls() -> None:
    script = "import time; print(time.time() > 0, time.monotonic() > 0, time.perf_counter_ns() > 0)"
    code, out, trace = run([str(KASOKU), "exec", "--strace", "--", "python3", "-c", script], b"")
    assert (code, out) == (0, b"True True True\n")
    assert b"mmap(" in trace
    assert b"clock_gettime(" not in trace and b"gettimeofday(" not in trace


def test_rewritten_sites_behave_as_before(tmp_path: Path) -> None:
    program = build("sites", tmp_path)
    assert run([str(program)], b"") == run(inside(program), b"") == (0, b"good\n", b"")
