"""What a snapshot depends on. Another key is another snapshot; an old one is never adapted."""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from kasoku.node.site import Site
from kasoku.registry.model import FunctionVersion

FORMAT = 2
"""Version of the files' format and of what the runner does around a snapshot."""


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """All that must be equal. The rate of the TSC and the details of the processor are compared again by the VMM."""

    tenant: str
    """Whose the function is: its file is encrypted for nobody else. Empty: the operator's."""
    function: str
    version: str
    """The function version: layers, handler and options, memory among them."""
    layers: tuple[str, ...]
    memory_mib: int
    vcpus: int
    tender: str
    libos: str
    """SHA-256 of the library OS."""
    vmm: str
    runtime: str
    """SHA-256 of the runtime layer, which holds the runner."""
    broker: str
    """SHA-256 of the broker, whose sessions a function with an accelerator may hold; empty without one."""
    host: str
    """Processor model and features, kernel release."""
    volumes: tuple[str, ...] = ()
    """Files of the volumes' layers, which are named by their contents: a volume's name may mean another later."""
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def key_of(function: FunctionVersion, site: Site) -> SnapshotKey:
    """The key of a function's snapshot on this host and installation. Raises PlatformError if a file is missing."""
    native = site.native
    return SnapshotKey(
        tenant=function.tenant,
        function=function.name,
        version=function.version,
        layers=function.layers,
        memory_mib=function.options.memory,
        vcpus=function.options.vcpus,
        tender="kvm",
        libos=_file(native.find("kasoku-libos")),
        vmm=_file(native.vmm),
        runtime=_file(native.runtime_layer),
        broker=_file(native.broker) if function.options.accelerator else "",
        host=host(),
        volumes=tuple(path.name for path, _ in site.volume_files(function)),
    )


def _file(path: Path) -> str:
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """Of the file as it was at that time: an installation may be replaced while the agent runs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def host() -> str:
    """The processor's model and flags and the kernel's release."""
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags")
    found: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            found.setdefault(name.strip(), value.strip())
    described = [*sorted(found.items()), platform.machine(), os.uname().release]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()
