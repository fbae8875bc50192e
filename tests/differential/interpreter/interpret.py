"""Runs sequences of operations, a JSON line in, a JSON line out; each in a process and an empty directory of its own.

As root it becomes nobody first, without capabilities: nothing that a sequence does can reach beyond its directory.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
from typing import Any

import events
import files
import kernel
import memory
import processes

NOBODY = 65534
LIMIT_S = 20
FILE_BYTES_MAX = 32 << 20


def run(sequence: list[Any], folder: str, report: int) -> None:
    """The child of one sequence: does it and writes the answers."""
    os.setsid()
    os.makedirs(folder, 0o755)
    os.chdir(folder)
    os.environ["KASOKU_SEQUENCE"] = folder
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(report, 900)
    os.closerange(3, 900)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.umask(0o022)
    kernel.call(9, memory.START, memory.PAGES * memory.PAGE, 0, 0x32, -1, 0)
    kernel.call(11, memory.START, memory.PAGES * memory.PAGE)
    signal.alarm(LIMIT_S)
    answers = [kernel.answer(name, arguments) for name, arguments in sequence]
    signal.alarm(0)
    data = json.dumps(answers).encode()
    while data:
        data = data[os.write(900, data) :]
    os._exit(0)


def main() -> None:
    base = sys.argv[1]
    assert {events, files, processes}
    if os.geteuid() == 0:
        os.chown(base, NOBODY, NOBODY)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    print(json.dumps(sorted(kernel.OPERATIONS)), flush=True)
    for number, line in enumerate(sys.stdin):
        # Its parent, too, is of this sequence alone.
        outer = f"{base}/{number}"
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                run(json.loads(line), f"{outer}/inner", writer)
            finally:
                os._exit(99)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            data = file.read()
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        answers = json.loads(data) if data else f"the sequence ended with {os.waitstatus_to_exitcode(status)}"
        print(json.dumps(answers), flush=True)
        for path, _, _ in os.walk(outer):
            os.chmod(path, 0o700)
        shutil.rmtree(outer, ignore_errors=True)


if __name__ == "__main__":
    main()
