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


MAPS = """
import mmap, os, sys
number = os.open("/m/file", os.O_RDWR)
mapped = mmap.mmap(number, 0)
def tell(what):
    print(what, flush=True)
    sys.stdin.readline()
mapped[0:5] = b"first"
mapped[8190:8194] = b"over"
mapped.flush()
tell("flushed")
mapped[10:14] = b"mine"
mapped.flush()
print(mapped[20:26])
mapped[30:36] = b"unmapped"[:6]
mapped.close()
tell("unmapped")
mapped = mmap.mmap(number, 0)
mapped[40:44] = b"sync"
os.fsync(number)
tell("synced")
if os.fork() == 0:
    mapped[50:56] = b"killed"
    os.kill(os.getpid(), 9)
os.wait()
mapped[60:64] = b"exit"
"""


def test_the_host_sees_what_is_written_to_a_mapping_when_linux_promises_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"." * 10_000)
    command = guest(f"{tmp_path}:/m:rw", "/usr/bin/python3", "-c", MAPS)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        given, said = process.stdin, process.stdout
        assert given and said
        assert said.readline() == "flushed\n"
        assert (file.read_bytes()[:6], file.read_bytes()[8188:8196]) == (b"first.", b"..over..")
        with file.open("r+b") as ours:
            ours.seek(20)
            ours.write(b"theirs")
        given.write("\n")
        assert said.readline() == "b'theirs'\n"
        assert said.readline() == "unmapped\n"
        assert file.read_bytes()[:37] == b"first.....mine......theirs....unmapp."
        given.write("\n")
        assert said.readline() == "synced\n"
        assert file.read_bytes()[40:45] == b"sync."
        given.write("\n")
    assert process.returncode == 0
    assert file.read_bytes()[40:66] == b"sync......killed....exit.."
    assert file.stat().st_size == 10_000


SHRINKS = """
import mmap, os, sys
number = os.open("/m/file", os.O_RDWR)
mapped = mmap.mmap(number, 0)
mapped[0:4] = b"head"
mapped[900_000:900_004] = b"tail"
print("written", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    print(mapped[5_900_000])
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
mapped.flush()
print(os.fstat(number).st_size, mapped[0:4])
child = os.fork()
if child == 0:
    mapped[900_000] = 1
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_file_that_the_host_shortens_under_a_mapping_is_shorter(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"." * 6_000_000)
    command = guest(f"{tmp_path}:/m:rw", "/usr/bin/python3", "-c", SHRINKS)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "written\n"
        os.truncate(file, 10_000)
        process.stdin.write("\n")
        process.stdin.close()
        # The pages that the host took away are SIGBUS; what was written to them is not made again.
        assert process.stdout.read().splitlines() == ["-7", "10000 b'head'", "-7"]
    assert process.returncode == 0
    assert file.read_bytes() == b"head" + b"." * 9_996
