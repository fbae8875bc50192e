"""Host directories that a guest may change: it does there what a program of the machine would, and both see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

KASOKU = Path(sys.executable).parent / "kasoku"
SCRIPT = Path(__file__).parent / "changes.py"
LIMIT_S = 120


def guest(mount: str, *program: str) -> list[str]:
    return [str(KASOKU), "exec", "-i", "--mount", f"{SCRIPT.parent}:/script", "--mount", mount, "--", *program]


def tree(top: Path) -> list[tuple[str, str, int, bytes]]:
    """Every file: its path, mode, links and contents."""
    found = []
    for path in sorted(top.rglob("*")):
        of = path.lstat()
        content = b"" if path.is_dir() else os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        found.append((str(path.relative_to(top)), oct(of.st_mode), 0 if path.is_dir() else of.st_nlink, content))
    return found


def test_a_guest_changes_files_as_the_machine_does(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "native", tmp_path / "guest"
    ours.mkdir()
    theirs.mkdir()
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    python = "/usr/bin/python3"
    native = subprocess.run(
        [python, "-u", SCRIPT, ours], capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False
    )
    command = guest(f"{theirs}:/m:rw", python, "-u", "/script/changes.py", "/m")
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout.splitlines() == native.stdout.splitlines(), done.stderr
    assert (done.returncode, done.stderr) == (native.returncode, native.stderr) == (0, "")
    assert tree(theirs) == tree(ours)


def test_each_side_sees_what_the_other_did(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("one\n")
    with subprocess.Popen(
        guest(f"{tmp_path}:/m:rw", "sh"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        given, said = process.stdin, process.stdout
        assert given and said

        def ask(line: str) -> str:
            given.write(f"{line}; echo\n")
            answer = ""
            while not answer.endswith("\n\n") and answer != "\n":
                answer += said.readline()
            return answer.strip()

        assert ask("cat /m/given") == "one"
        (tmp_path / "given").write_text("two and more\n")
        assert ask("cat /m/given; stat -c %s /m/given") == "two and more\n13"
        (tmp_path / "given").unlink()
        (tmp_path / "given").mkdir()
        (tmp_path / "given/inside").write_text("three\n")
        assert ask("ls -F /m; cat /m/given/inside") == "given/\nthree"
        assert ask("exec 5>/m/made; echo first >&5; echo done") == "done"
        assert (tmp_path / "made").read_text() == "first\n"
        (tmp_path / "made").write_text("")
        assert ask("wc -c < /m/made; exec 5>>/m/made; echo second >&5; mv /m/made /m/given/moved") == "0"
        assert (tmp_path / "given/moved").read_text() == "second\n"
        (tmp_path / "given/moved").rename(tmp_path / "back")
        assert ask("ls /m/given; cat /m/back; rm -r /m/given; ls /m") == "inside\nsecond\nback"
        assert ask("echo x > /m/../../../m/.. 2>/dev/null; mkfifo /m/fifo 2>&1 | grep -c permitted") == "1"
        given.close()
    assert process.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["back"]


def test_a_mount_for_reading_stays_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    script = (
        "echo x > /m/file; echo x > /m/new; rm /m/file; mkdir /m/d; mv /m/file /m/g; chmod 0 /m/file; ln /m/file /m/l"
    )
    for mode in ("", ":ro"):
        done = subprocess.run(
            guest(f"{tmp_path}:/m{mode}", "sh", "-c", script),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.stderr.count("Read-only file system") == 7, done.stderr
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "kept"


def test_shared_writable_mappings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    script = (
        "import mmap, os\n"
        "number = os.open('/m/file', os.O_RDWR)\n"
        "print(mmap.mmap(number, 0, prot=mmap.PROT_READ)[4999:])\n"
        "try: mmap.mmap(number, 0)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    command = guest(f"{tmp_path}:/m:rw", "/usr/bin/python3", "-c", script)
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout == "b'x'\nNo such device\n", done.stderr
