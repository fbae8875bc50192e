"""Runs pip with its arguments in a process that cannot start another one; `requirements.py` starts this as a script.

`--only-binary=:all:` keeps pip from building what it picks itself, but a wheel's metadata may name a source archive or
a repository by URL, and pip would build that: code of whoever wrote the wheel would run on this machine. Every way to
build leads through a new process, and an audit hook, once added, cannot be removed.
"""

import runpy
import sys

_STARTS = frozenset(
    ["subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn"]
)


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if event in _STARTS:
        # An OSError, because pip looks for optional helpers (lsb_release) and goes on without them.
        raise PermissionError("only wheels are accepted: building an image starts no program of a package")


if __name__ == "__main__":
    sys.addaudithook(_refuse)
    sys.argv[0] = "pip"
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
