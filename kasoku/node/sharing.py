"""Memory and events that a VM and its broker share."""

import contextlib
import fcntl
import os
from dataclasses import dataclass


@dataclass(slots=True)
class SessionMemory:
    """The descriptors of one accelerator session. The agent only makes them and passes them on."""

    memory: int
    doorbell: int
    """Eventfd, guest to broker."""
    wake: int
    """Eventfd, broker to guest."""

    @classmethod
    def create(cls, mib: int) -> "SessionMemory":
        """Memory of `mib` MiB, sealed against any change of size: a truncation would kill whoever maps it."""
        memory = os.memfd_create("kasoku-session", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        made = [memory]
        try:
            os.ftruncate(memory, mib << 20)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            made += [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
        except OSError:
            for descriptor in made:
                os.close(descriptor)
            raise
        return cls(*made)

    @property
    def descriptors(self) -> list[int]:
        return [self.memory, self.doorbell, self.wake]

    def close(self) -> None:
        """Drop the agent's references; the memory goes with the last process that maps it."""
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
