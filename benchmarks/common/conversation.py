"""Two programs that run side by side, natively and in a guest, and are asked in turn: one line in, one line out."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType


class Conversation:
    """A program that answers every line of its standard input with one line. Use it as a context manager."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=None if env is None else dict(env)
        )

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    def ask(self, line: str) -> str:
        """Sends a line and returns the answer. Raises RuntimeError where the program ended instead."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            raise RuntimeError(f"{' '.join(self._command)} ended with status {self._process.wait()}, asked {line!r}")
        return answer.rstrip("\n")

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
