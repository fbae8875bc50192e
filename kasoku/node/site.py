"""What every instance of a node is built from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kasoku.home import Home
from kasoku.node.errors import PlatformError
from kasoku.node.native import Native
from kasoku.registry.model import FunctionVersion
from kasoku.tenants.model import qualify


def no_secrets(function: FunctionVersion) -> dict[str, str]:
    """For functions that ask for none."""
    if names := function.options.secrets:
        raise PlatformError("InvalidParameterValueException", f"there are no secrets here, such as {names[0]!r}")
    return {}


@dataclass(frozen=True, slots=True)
class Site:
    """The state directory, the binaries, and where a layer's file is."""

    home: Home
    native: Native
    layer_path: Callable[[str], Path]
    """From `sha256:HEX` to the layer's file."""
    volume_path: Callable[[str], Path]
    """From a volume's name to its layer's file."""
    secrets: Callable[[FunctionVersion], dict[str, str]] = no_secrets
    """Values of a function's secrets by name, as they are now. Raises PlatformError for one that is not there."""

    def layer_files(self, function: FunctionVersion) -> list[Path]:
        """The layers of a function's VM, bottom first; the runtime layer lies on top of all."""
        return [*(self.layer_path(digest) for digest in function.layers), self.native.runtime_layer]

    def volume_files(self, function: FunctionVersion) -> list[tuple[Path, str]]:
        """The volumes of a function's VM and where each one appears."""
        tenant = function.tenant
        return [(self.volume_path(qualify(tenant, name)), place) for place, name in function.options.volumes]
