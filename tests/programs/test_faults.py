"""What a program that ends by a fault leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

KASOKU = Path(sys.executable).parent / "kasoku"

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) static void write_through(volatile int *place) { *place = 1; }
__attribute__((noinline)) void the_guilty_function(char **argv) {
    if (!strcmp(argv[1], "null")) write_through(0);
    if (!strcmp(argv[1], "call-null")) ((void (*)(void))0)();
    if (!strcmp(argv[1], "divide")) { volatile int zero = 0; printf("%d", 7 / zero); }
    if (!strcmp(argv[1], "illegal")) __builtin_trap();
    if (!strcmp(argv[1], "abort")) abort();
    if (!strcmp(argv[1], "code")) *(volatile char *)the_guilty_function = 0;
}
int main(int argc, char **argv) { getppid(); the_guilty_function(argv); return 0; }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "fault.c").write_text(SOURCE)
    subprocess.run(["cc", "-O1", "-o", folder / "fault", folder / "fault.c"], check=True)
    return folder / "fault"


def test_every_fault_is_the_signal_that_linux_gives(tmp_path: Path) -> None:
    program = tmp_path / "faults"
    subprocess.run(["cc", "-O1", "-static", "-o", program, Path(__file__).parent / "c" / "faults.c"], check=True)
    native = subprocess.run([program], check=True, capture_output=True, text=True, timeout=60)
    command = [str(KASOKU), "exec", "--mount", f"{tmp_path}:/t:ro", "--", "/t/faults"]
    guest = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert guest.stdout.splitlines() == native.stdout.splitlines()


@pytest.mark.parametrize(
    ("how", "signal", "name"),
    [
        ("null", 11, "SIGSEGV"),
        ("call-null", 11, "SIGSEGV"),
        ("divide", 8, "SIGFPE"),
        ("illegal", 4, "SIGILL"),
        ("abort", 6, "SIGABRT"),
        ("code", 11, "SIGSEGV"),
    ],
)
def test_a_fault_ends_the_program_as_natively_and_is_reported(program: Path, how: str, signal: int, name: str) -> None:
    native = subprocess.run([program, how], check=False, capture_output=True, timeout=60)
    mount = f"{program.parent}:/t:ro"
    command = [str(KASOKU), "exec", "--mount", mount, "--", "/t/fault", how]
    guest = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert native.returncode == -signal
    assert guest.returncode == 128 + signal
    report = guest.stderr
    assert f"fault (1): {name} at address" in report
    assert "the_guilty_function" in report
    assert "rip " in report and "[stack]" in report
    assert "getppid() = 0" in report
