"""The wheel's build hook: compiles the Rust parts and says where in the wheel they go.

| in the wheel | what |
|---|---|
| `kasoku/_native/` | host binaries, the library OS, `runtime.erofs` |
| the environment's `bin/kasoku` | the launcher |
| the environment's `share/kasoku/native-dir` | editable installs only: one line, where `_native` lies |
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import native


class NativeHook(BuildHookInterface[Any]):
    """Called by hatchling for `pip install .`, `pip install -e .` and `pip wheel .`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Stages the native files; `version` is "editable" for an editable install."""
        folder = Path(self.root) / "kasoku" / "_native"
        launcher = None
        try:
            launcher = native.stage(folder)
        except native.BuildError as error:
            # Whoever repairs a tree that does not compile needs its environment.
            if version != "editable":
                raise
            print(f"warning: {error}", file=sys.stderr)
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
        if launcher is not None:
            build_data["shared_scripts"][str(launcher)] = native.LAUNCHER
        if version == "editable":
            pointer = Path(self.root) / "build" / "native-dir"
            pointer.parent.mkdir(exist_ok=True)
            pointer.write_text(f"{folder}\n")
            build_data["shared_data"][str(pointer)] = "share/kasoku/native-dir"
        else:
            build_data["force_include"][str(folder)] = "kasoku/_native"
