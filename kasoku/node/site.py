"""What every instance of a node is built from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kasoku.home import Home
from kasoku.node.native import Native
from kasoku.registry.model import FunctionVersion


@dataclass(frozen=True, slots=True)
class Site:
    """The state directory, the binaries, and where a layer's file is."""

    home: Home
    native: Native
    layer_path: Callable[[str], Path]
    """From `sha256:HEX` to the layer's file."""

    def layer_files(self, function: FunctionVersion) -> list[Path]:
        """The layers of a function's VM, bottom first; the runtime layer lies on top of all."""
        return [*(self.layer_path(digest) for digest in function.layers), self.native.runtime_layer]
