"""Guests with several processors: threads run at once, see each other's changes of memory, and each makes progress."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_native import ENVIRONMENT, KASOKU, LIMIT_S, run
from .test_system_calls import build, inside

#: Tests of `sources/races.c`, and the exit code that each ends with.
RACES = {
    "takes-away": 0,
    "maps": 0,
    "forks": 0,
    "futexes": 0,
    "signals": 0,
    "progress": 0,
    "affinity": 0,
    "exit": 3,
    "exec": 0,
}


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("races", tmp_path_factory.mktemp("races"))


@pytest.mark.parametrize("name", RACES)
def test_threads_behave_as_natively(races: Path, name: str) -> None:
    expected = (RACES[name], b"good\n", b"")
    assert run([str(races), name], b"") == expected
    for processors in ("1", "2"):
        assert run([*inside(races, "--vcpus", processors), name], b"") == expected


@pytest.mark.parametrize("name", ["takes-away", "maps", "forks", "futexes", "affinity"])
def test_more_processors_than_the_machine_may_have(races: Path, name: str) -> None:
    assert run([*inside(races, "--vcpus", "4"), name], b"") == (0, b"good\n", b"")


@pytest.mark.parametrize("processors", ["1", "2"])
def test_futexes_and_the_locks_built_on_them(tmp_path: Path, processors: str) -> None:
    program = build("futex", tmp_path)
    assert run([str(program)], b"") == run(inside(program, "--vcpus", processors), b"") == (0, b"good\n", b"")


PYTHON = """
import concurrent.futures, multiprocessing, os, queue, subprocess, threading

def square(x): return x * x

if __name__ == "__main__":
    print(os.cpu_count(), sorted(os.sched_getaffinity(0)))
    print(open("/sys/devices/system/cpu/online").read().strip(), open("/proc/cpuinfo").read().count("processor\\t"))
    results = queue.Queue()
    threads = [threading.Thread(target=lambda i=i: [results.put(i * 1000 + n) for n in range(500)]) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(sum(results.get() for _ in range(2000)))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print(sum(pool.map(square, range(1000))))
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, sum(pool.map(square, range(300))))
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(sum(pool.map(square, range(200))))
    print([subprocess.run(["sh", "-c", f"seq {n} | sort -rn | head -1"], capture_output=True).stdout for n in (5, 500)])
"""


def test_python_uses_two_processors(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PYTHON)
    tmp_path.chmod(0o755)
    options = ["--vcpus", "2", "--mount", f"{tmp_path}:/bench:ro"]
    code, out, err = run([str(KASOKU), "exec", *options, "--", "python3", "/bench/program.py"], b"")
    lines = out.decode().splitlines()
    assert (code, err, lines[:2]) == (0, b"", ["2 [0, 1]", "0-1 2"])
    assert lines[2:] == [
        str(sum(i * 1000 + n for i in range(4) for n in range(500))),
        "332833500",
        "fork 8955050",
        "spawn 8955050",
        "2646700",
        "[b'5\\n', b'500\\n']",
    ]


BLAS = """
import os
import numpy
numbers = numpy.random.default_rng(1)
a, b = numbers.standard_normal((600, 600)), numbers.standard_normal((600, 600))
for _ in range(20):
    c = a @ b
rows = numpy.arange(0, 600, 37)
print(len(os.listdir("/proc/self/task")), numpy.allclose(c[rows], numpy.einsum("ik,kj->ij", a[rows], b)))
"""


def test_numpy_computes_on_the_processors_it_sees() -> None:
    numpy = pytest.importorskip("numpy")
    machines = shutil.which("python3", path=ENVIRONMENT["PATH"]) or "false"
    ask = "import sys; print(sys.version_info[:2])"
    versions = [run([python, "-c", ask], b"") for python in (machines, sys.executable)]
    if versions[0] != versions[1]:
        pytest.skip("the machine's Python is another one than that which has NumPy")
    packages = Path(numpy.__file__).parent.parent
    for processors in ("1", "2"):
        options = ["--vcpus", processors, "--mount", f"{packages}:/packages:ro", "-e", "PYTHONPATH=/packages"]
        done = run([str(KASOKU), "exec", *options, "--", "python3", "-c", BLAS], b"")
        assert done == (0, f"{processors} True\n".encode(), b"")


def test_a_guest_is_killed_while_all_its_processors_run(races: Path) -> None:
    with subprocess.Popen([*inside(races, "--vcpus", "2", "--timeout", "1"), "spin"], stdout=subprocess.PIPE) as guest:
        assert guest.stdout and guest.stdout.readline() == b"spinning\n"
        assert guest.wait(LIMIT_S) == 124


@pytest.mark.parametrize("number", ["0", "9"])
def test_a_wrong_number_of_processors_is_refused(number: str) -> None:
    code, _, err = run([str(KASOKU), "exec", "--vcpus", number, "--", "true"], b"")
    assert code == 125
    assert f"a guest has 1 to 8 processors, not {number}" in err.decode()
