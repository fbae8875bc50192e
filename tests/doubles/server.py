"""`kasoku up` with twins of virtual machine, broker and image store: `server.py HOME NATIVE_DIR [HOST]`."""

import asyncio
import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from kasoku.gateway.platform import Platform
from kasoku.gateway.server import ServerOptions, serve
from kasoku.home import Home
from kasoku.node.errors import PlatformError
from kasoku.node.layers import Base
from kasoku.node.native import Native


class Layers:
    """Layers that are files naming a directory."""

    def __init__(self, home: Home) -> None:
        self._folder = home.make().layers

    def base(self, image: str | None, requirements: Sequence[str]) -> Base:
        if image == "missing":
            raise PlatformError("InvalidParameterValueException", "there is no image 'missing'")
        layers = (self._add({"at": "/", "fault": image.split("-")[1]}),) if image and image.startswith("fault-") else ()
        return Base(layers, "python3", ())

    def code(self, tree: Path, at: str) -> str:
        content = {p.relative_to(tree).as_posix(): p.read_bytes().hex() for p in sorted(tree.rglob("*")) if p.is_file()}
        name = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        if not (self._folder / name).exists():
            shutil.copytree(tree, self._folder / name)
        return self._add({"at": at, "tree": str(self._folder / name)})

    def path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha256:')}.erofs"

    def volume(self, name: str) -> Path:
        raise PlatformError("InvalidParameterValueException", f"there is no volume {name!r}")

    def _add(self, described: dict[str, str]) -> str:
        text = json.dumps(described).encode()
        digest = hashlib.sha256(text).hexdigest()
        self.path(digest).write_bytes(text)
        return f"sha256:{digest}"


CLOCK_STEPS = {signal.SIGUSR1: 8 * 3600.0, signal.SIGUSR2: -16 * 3600.0}
"""By how many seconds these signals set the server's wall clock, as somebody does with a machine's."""


def set_clock(seconds: float) -> None:
    """The wall clock is another from now on; the monotonic ones go on."""
    before = time.time
    time.time = lambda: before() + seconds


def main() -> None:
    home = Home(Path(sys.argv[1]))

    def ready(url: str, _: Platform) -> None:
        for number, seconds in CLOCK_STEPS.items():
            asyncio.get_running_loop().add_signal_handler(number, set_clock, seconds)
        print(url, flush=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        host = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
        options = ServerOptions(home, host, native=Native(Path(sys.argv[2])), snapshots=False)
        runner.run(serve(options, Layers(home), ready))


if __name__ == "__main__":
    main()
