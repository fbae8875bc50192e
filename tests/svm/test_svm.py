"""Kasoku on hardware's terms: `kvm_amd`, loaded in a machine that QEMU emulates (`make test-svm`).

One boot runs everything. What can be compared is run twice there, as a program of the emulated machine's Linux and as
one of a Kasoku guest: the processor is the same.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from kasoku.images.store import ImageStore
from tests.conftest import share_layers

from . import kernel, machine
from .machine import HOME, Job, Result, guest

ROOT = machine.ROOT
SOURCES = Path(__file__).resolve().parent.parent / "programs" / "c"
IMAGE = "python"
REQUIRED = os.environ.get("KASOKU_REQUIRE_SVM") == "1"

HELLO = r"""
#include <stdio.h>
int main(int argc, char **argv) { printf("hello from %d words\n", argc); return 7; }
"""
PYTHON = (
    "import hashlib, json, os, subprocess, threading\n"
    "spinning = True\n"
    "def spin():\n"
    "    while spinning: pass\n"
    "threads = [threading.Thread(target=spin) for _ in range(3)]\n"
    "for t in threads: t.start()\n"
    "touched = os.open('/dev/kasoku/touched', os.O_WRONLY)\n"  # memory moves under the running threads
    "os.write(touched, b'note')\n"
    "words = [str(number) for number in range(10_000)]\n"
    "os.write(touched, b'pack')\n"
    "assert words == [str(number) for number in range(10_000)]\n"
    "try: os.write(touched, b'park')\n"
    "except OSError as error: assert error.errno == 22\n"
    "else: raise AssertionError('a word that means nothing')\n"
    "digest = hashlib.sha256(bytes(1 << 20)).hexdigest()\n"
    "spinning = False\n"
    "for t in threads: t.join()\n"
    "child = os.fork()\n"
    "if child == 0: os._exit(3)\n"
    "print(json.dumps({'digest': digest, 'child': os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}))\n"
)
SHELL = "i=0; while [ $i -lt 3 ]; do echo $i; i=$((i + 1)); done | sort -r | cat; exit 4"


def missing() -> str | None:
    """What this machine lacks for these tests."""
    for tool in (machine.QEMU, "busybox", "cc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if not machine.LAUNCHER.is_file():
        return "the kasoku binary is not built"
    try:
        kernel.find()
    except kernel.NoKernel as error:
        return str(error)
    return None


def monitor_tests() -> Path:
    """The monitor's own tests of hand-written guests, as a program."""
    command = ["cargo", "test", "--no-run", "--locked", "--message-format=json", "-p", "kasoku-vmm", "--test", "boot"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(Path(m["executable"]) for m in messages if m.get("executable") and m["target"]["kind"] == ["test"])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What every job of the one boot returned."""
    if lack := missing():
        if REQUIRED:
            pytest.fail(lack)
        pytest.skip(lack)
    folder = tmp_path_factory.mktemp("svm")
    found = kernel.find()
    root = machine.root_files(found)
    (folder / "hello.c").write_text(HELLO)
    for name, source in (
        ("hello", folder / "hello.c"),
        ("faults", SOURCES / "faults.c"),
        ("races", SOURCES / "races.c"),
    ):
        subprocess.run(["cc", "-O1", "-static", "-pthread", "-o", folder / name, source], check=True)
        root.copy(folder / name, f"usr/bin/{name}")
    store = ImageStore(share_layers(folder / "home"))
    layer = store.ensure_python_layer()
    store.save(IMAGE, [layer])
    root.copy(store.layer_path(layer.digest), f"{HOME}/layers/{layer.hex}.erofs")
    root.copy(store.images / f"{IMAGE}.json", f"{HOME}/images/{IMAGE}.json")
    root.program(monitor_tests(), "usr/bin/monitor-tests")
    jobs = [
        Job("device", "cat /sys/module/kvm_amd/parameters/npt; ls /dev/kvm"),
        Job("hello", guest("/usr/bin/hello", "a", "b")),
        Job("shell_native", shlex.join(["sh", "-c", SHELL])),
        Job("shell_guest", guest("/bin/sh", "-c", SHELL)),
        Job("faults_native", "faults"),
        Job("faults_guest", guest("/usr/bin/faults")),
        Job("races_guest", guest("/usr/bin/races", "10", options=("--vcpus", "2")), 120),
        Job("monitor", "monitor-tests --test-threads 1", 120),
        Job("python", guest("python3", "-S", "-c", PYTHON, options=("--image", IMAGE))),
    ]
    return machine.run(found, root, jobs, folder)


def test_kvm_is_amds(results: dict[str, Result]) -> None:
    assert results["device"].out.endswith("/dev/kvm\n"), results["device"]


def test_a_static_program(results: dict[str, Result]) -> None:
    assert results["hello"] == Result(7, "hello from 3 words\n", "")


def test_processes_and_pipes_of_a_dynamic_program(results: dict[str, Result]) -> None:
    assert results["shell_native"] == Result(4, "2\n1\n0\n", "")
    assert results["shell_guest"] == results["shell_native"]


def test_every_fault_is_the_signal_that_linux_gives(results: dict[str, Result]) -> None:
    native = results["faults_native"]
    assert native.code == 0 and len(native.out.splitlines()) > 30
    assert results["faults_guest"] == native


def test_mappings_that_change_under_a_running_thread(results: dict[str, Result]) -> None:
    expected = "mprotect ok\nmunmap ok\nmadvise ok\ncopy on write ok\nfaults were seen\n"
    assert results["races_guest"] == Result(0, expected, "")


def test_python_from_an_image(results: dict[str, Result]) -> None:
    digest = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"
    assert results["python"] == Result(0, f'{{"digest": "{digest}", "child": 3}}\n', "")


def test_hand_written_guests(results: dict[str, Result]) -> None:
    said = results["monitor"]
    assert said.code == 0, said
    assert re.search(r"test result: ok. [1-9]\d* passed", said.out)
