"""The two sides that run sequences: this machine and a guest."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

INTERPRETER = Path(__file__).resolve().parent / "interpreter"
KASOKU = Path(sys.executable).parent / "kasoku"
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else os.path.realpath(sys.executable)
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
ANSWER_LIMIT_S = 90
Sequence = list[tuple[str, list[Any]]]


class Side:
    """A process that runs sequences, started when the first one comes and again after it has failed."""

    def __init__(self, *, guest: bool) -> None:
        self.guest = guest
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: str | None = None
        self.operations: list[str] = []

    def start(self) -> subprocess.Popen[bytes]:
        if self.guest:
            options = ["--mem", "512", "--mount", f"{INTERPRETER}:/mnt/interpreter:ro"]
            for name, value in ENVIRONMENT.items():
                options += ["-e", f"{name}={value}"]
            script = "base=$(mktemp -d) && exec $0 /mnt/interpreter/interpret.py $base"
            words = [str(KASOKU), "exec", "-i", *options, "--", "sh", "-c", script, PYTHON]
        else:
            # A tmpfs, as the guest's file systems are.
            self.folder = tempfile.mkdtemp(prefix="kasoku-differential", dir="/dev/shm")
            words = [PYTHON, str(INTERPRETER / "interpret.py"), self.folder]
        command = ["env", "--default-signal", *words]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd="/"
        )
        self.operations = self.line(self.process)
        return self.process

    def run(self, sequence: Sequence) -> list[Any] | str:
        """The answers, one for each operation; a sentence where the sequence or the side came to an end."""
        process = self.process or self.start()
        assert process.stdin
        try:
            process.stdin.write(json.dumps(sequence).encode() + b"\n")
            process.stdin.flush()
            answers: list[Any] | str = self.line(process)
        except (BrokenPipeError, EOFError, TimeoutError) as error:
            return self.failed(process, type(error).__name__)
        return answers

    def line(self, process: subprocess.Popen[bytes]) -> Any:
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_LIMIT_S):
                raise TimeoutError
        text = process.stdout.readline()
        if not text.endswith(b"\n"):
            raise EOFError
        return json.loads(text)

    def failed(self, process: subprocess.Popen[bytes], why: str) -> str:
        process.kill()
        _, said = process.communicate()
        self.stop()
        return f"{'the guest' if self.guest else 'this machine'}: {why}: {said.decode(errors='replace')[-2000:]}"

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
