"""Where the host binaries and guest files of this installation are."""

import sys
from dataclasses import dataclass
from pathlib import Path

from kasoku.node.errors import PlatformError

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Native:
    """Paths of what the wheel carries beside Python. Looked up when used: not all commands need all of it."""

    directory: Path | None = None
    """`--native-dir`; None: the package's `_native`, then a source tree's build folders."""
    cpu_devices: int = 0
    """Devices that each CPU device is offered as, each with processors of its own; 0: as it is."""

    @property
    def vmm(self) -> Path:
        return self.find("kasoku-vmm")

    @property
    def broker(self) -> Path:
        return self.find("kasoku-broker")

    @property
    def runtime_layer(self) -> Path:
        """The layer with runner, SDK and virtual libraries that lies on top of every image."""
        return self.find("runtime.erofs")

    @property
    def options(self) -> list[str]:
        """For binaries that look for their siblings themselves."""
        return ["--native-dir", str(self.directory)] if self.directory else []

    @property
    def device_options(self) -> list[str]:
        """For the broker: how devices are offered."""
        return ["--cpu-devices", str(self.cpu_devices)] if self.cpu_devices else []

    def find(self, name: str) -> Path:
        """The file, or PlatformError that says where it was sought."""
        places = [self.directory] if self.directory else [_PACKAGE / "_native", _PACKAGE.parent / "target" / "release"]
        for place in places:
            if (place / name).is_file():
                return place / name
        sought = ", ".join(str(p) for p in places)
        raise PlatformError(
            "ServiceException", f"{name} is not installed (sought in {sought}); run `make setup` or reinstall"
        )


def opencl_library_path() -> str:
    """Where OpenCL runtimes from PyPI put their libraries: the environment that this Python runs in."""
    return str(Path(sys.prefix) / "lib")
