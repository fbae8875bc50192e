"""Scripts of unmodified programs: the guest prints and returns what the machine itself does.

A script is a file of `scripts/`: its first comment says what it is about, `# needs:` names the programs without which
it is skipped, `# as: root` says that only a superuser's native run compares, `# where:` is a command that fails where
nothing compares. It begins in an empty directory of its own and finds two free ports in `PORT` and `OTHER_PORT`.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

KASOKU = Path(sys.executable).parent / "kasoku"
SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.sh"))
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": "/root"}
LIMIT_S = 120
MEMORY_MIB = 1024

#: What may differ: names of temporary directories and numbers of processes.
VOLATILE = [(re.compile(rb"/tmp/tmp\.\w+"), b"TEMPORARY"), (re.compile(rb"line \d+: +\d+ "), b"line N: PID ")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(prefix: list[str], script: str) -> tuple[int, bytes, bytes]:
    text = f'cd "$(mktemp -d)" || exit 99\nexport PORT={free_port()} OTHER_PORT={free_port()}\n{script}'
    # Whoever started the tests may ignore SIGINT, as shells let background jobs do; a guest begins with none ignored.
    command = ["env", "--default-signal", *prefix, "bash", "-c", text]
    done = subprocess.run(
        command, input=b"in\n", capture_output=True, env=ENVIRONMENT, timeout=LIMIT_S, cwd="/", check=False
    )
    out, err = done.stdout, done.stderr
    for pattern, instead in VOLATILE:
        out, err = pattern.sub(instead, out), pattern.sub(instead, err)
    return done.returncode, out, err


def in_guest(script: str, memory_mib: int = MEMORY_MIB) -> tuple[int, bytes, bytes]:
    environment = [word for name, value in ENVIRONMENT.items() for word in ("-e", f"{name}={value}")]
    return run([str(KASOKU), "exec", "--mem", str(memory_mib), *environment, "--"], script)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_guest_does_what_the_machine_does(path: Path) -> None:
    script = path.read_text()
    needed = re.search(r"^# needs: (.*)$", script, re.MULTILINE)
    for program in needed[1].split() if needed else []:
        if shutil.which(program, path=ENVIRONMENT["PATH"]) is None:
            pytest.skip(f"{program} is not installed on this machine")
    if re.search(r"^# as: root$", script, re.MULTILINE) and os.geteuid() != 0:
        pytest.skip("a guest's program is root, the tests' native run is not")
    possible = re.search(r"^# where: (.*)$", script, re.MULTILINE)
    if possible and subprocess.run(["sh", "-c", possible[1]], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"this machine does not allow `{possible[1]}`")
    assert in_guest(script) == run([], script)


def test_programs_that_end_leave_no_memory_in_use() -> None:
    """Two hundred pipelines and forty children that nobody waits for, each of which would fill a part of the guest."""
    script = """
        for i in $(seq 200); do head -c 1000000 /dev/zero | cat >/dev/null; done
        /usr/bin/python3 -c '
import os, time
for _ in range(40):
    if os.fork() == 0:
        block = bytearray(10_000_000)
        os._exit(0)
    time.sleep(0.02)
print("done")'
    """
    assert in_guest(script, memory_mib=192) == (0, b"done\n", b"")
