"""A function at rest, as an agent holds it."""

import os
from dataclasses import dataclass
from pathlib import Path

from kasoku.leases.model import Device


@dataclass(slots=True)
class Saved:
    """Sealed memory files, which every clone maps or reads; whoever has one closes it."""

    memory: int
    """The guest: registers and RAM."""
    session: int | None = None
    """Its accelerator session, memory included, if its initialisation made one."""
    device: str = ""
    """Kind of device and driver that the session needs."""
    volumes: tuple[tuple[Path, str], ...] = ()
    """The files that the guest has mapped as volumes, and their places."""

    def fits(self, device: Device) -> bool:
        """Whether the device can be of the kind that the session needs. The broker compares the driver too."""
        runtime, _, rest = self.device.partition("|")
        return not self.device or (runtime == device.id.partition(":")[0] and rest.partition("|")[0] == device.name)

    def duplicate(self) -> "Saved":
        """The same with descriptors of its own."""
        memory = os.dup(self.memory)
        try:
            session = None if self.session is None else os.dup(self.session)
            return Saved(memory, session, self.device, self.volumes)
        except OSError:
            os.close(memory)
            raise

    @property
    def held_bytes(self) -> int:
        """Memory that the files take on this host."""
        files = [self.memory] if self.session is None else [self.memory, self.session]
        return sum(os.fstat(file).st_blocks * 512 for file in files)

    def close(self) -> None:
        """Give the descriptors up."""
        os.close(self.memory)
        if self.session is not None:
            os.close(self.session)
