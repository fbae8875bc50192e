"""Unmodified programs of the machine: the guest says and returns what the machine itself does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KASOKU = Path(sys.executable).parent / "kasoku"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
LIMIT_S = 120

#: What is run: the program that must be there, its arguments, its standard input.
PROGRAMS: list[tuple[str, list[str], bytes]] = [
    ("true", [], b""),
    ("false", [], b""),
    ("echo", ["hello", "world"], b""),
    ("cat", ["-n"], b"one\ntwo\n"),
    ("ls", ["/usr/bin"], b""),
    ("ls", ["-l", "/etc/passwd"], b""),
    ("ls", ["/does/not/exist"], b""),
    ("sort", ["-n"], b"10\n9\n8\n100\n"),
    ("sha256sum", ["/bin/ls", "/usr/bin/env"], b""),
    ("wc", ["/etc/passwd"], b""),
    ("sed", ["s/a/b/g"], b"banana\n"),
    ("grep", ["-c", "root", "/etc/passwd"], b""),
    ("awk", ["BEGIN { for (i = 0; i < 10; i++) s += i * i; print s }"], b""),
    ("seq", ["1", "100"], b""),
    ("date", ["-u", "-d", "@1700000000"], b""),
    ("env", ["-i", "A=1", "env"], b""),
    ("sh", ["-c", "echo $((6 * 7)); exit 3"], b""),
    ("sh", ["-c", "seq 1 1000 | sort -r | head -n 3"], b""),
    ("bash", ["-c", 'x=$(echo nested); echo "$x"; for i in 1 2 3; do echo $i; done | tac'], b""),
    ("perl", ["-e", 'print join(",", map { $_ ** 2 } 1..10), "\\n"; exit 7'], b""),
    (
        "sqlite3",
        [":memory:", "create table t(a, b); insert into t values(1, 'x'), (2, 'y'); select sum(a), max(b) from t;"],
        b"",
    ),
    ("busybox", ["sh", "-c", "echo $0; ls /usr | head -3"], b""),
    ("python3", ["-c", "import sys, json; print(json.dumps({'a': [1, 2.5, None]})); sys.exit(5)"], b""),
    ("python3", ["-m", "json.tool"], b'{"b": 1, "a": [true, null]}'),
    (
        "python3",
        [
            "-c",
            "import threading; r = []; ts = [threading.Thread(target=r.append, args=(i,)) for i in range(8)]; "
            "[t.start() for t in ts]; [t.join() for t in ts]; print(sorted(r))",
        ],
        b"",
    ),
    ("python3", ["-c", "import subprocess; print(subprocess.run(['echo', 'child'], capture_output=True).stdout)"], b""),
]


def run(command: list[str], given: bytes) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        command, input=given, capture_output=True, env=ENVIRONMENT, timeout=LIMIT_S, cwd="/", check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("program", "arguments", "given"), PROGRAMS, ids=lambda value: value if isinstance(value, str) else None
)
def test_the_guest_does_what_the_machine_does(program: str, arguments: list[str], given: bytes) -> None:
    if shutil.which(program, path=ENVIRONMENT["PATH"]) is None:
        pytest.skip(f"{program} is not installed on this machine")
    native = run([program, *arguments], given)
    guest = run([str(KASOKU), "exec", "--", program, *arguments], given)
    assert guest == native


def test_a_file_written_and_read_back(tmp_path: Path) -> None:
    script = "import os; open('/tmp/x', 'wb').write(b'a' * 1_000_000); print(os.stat('/tmp/x').st_size)"
    code, out, err = run([str(KASOKU), "exec", "--", "python3", "-c", script], b"")
    assert (code, out, err) == (0, b"1000000\n", b"")
    assert not os.path.exists("/tmp/x") or os.stat("/tmp/x").st_size != 1_000_000
