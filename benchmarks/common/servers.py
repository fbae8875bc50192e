"""Servers that a benchmark talks to: started, and gone with all that they started, whatever ends the benchmark."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common import kasoku_command as kasoku
from common.processes import descendants

END_SECONDS = 10.0


def end_on_signals() -> None:
    """Let SIGTERM (a time limit's) unwind the benchmark as Ctrl-C does: else servers outlive it and hold its output."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def running(command: Sequence[str], pattern: str) -> Iterator[re.Match[str]]:
    """Run a server; yields what its first line says. Raises RuntimeError when that does not match."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not (found := re.search(pattern, line)):
            raise RuntimeError(f"{command[0]} did not start: {line.strip() or 'it said nothing'}")
        yield found
    finally:
        left = descendants(process.pid)
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def gateway(home: Path, functions: str) -> Iterator[int]:
    """`kasoku up` with the functions of a file; yields the port."""
    with running([str(kasoku.KASOKU), "up", "--home", str(home), "--port", "0"], r"http://[^:]+:(\d+)") as found:
        file = home / "functions.py"
        file.write_text(functions)
        command = [str(kasoku.KASOKU), "deploy", str(file), "--home", str(home)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield int(found[1])
