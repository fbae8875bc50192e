"""Devices, leases, and the decisions that the lease table takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator of a node, as its broker lists it."""

    id: str
    """`VENDOR:NUMBER`, such as `intel:0`."""
    api: str
    kind: str
    """`cpu`, `gpu` or `accelerator`."""
    name: str

    @property
    def full_id(self) -> str:
        """API and id: what a function writes to ask for exactly this device."""
        return f"{self.api}:{self.id}"

    def matches(self, selector: str) -> bool:
        """Whether the device is what `opencl`, `opencl:VENDOR`, `opencl:KIND` or `opencl:VENDOR:NUMBER` asks for."""
        api, _, wanted = selector.partition(":")
        if api != self.api:
            return False
        return wanted in ("", self.kind, self.id, self.id.split(":")[0])


@dataclass(slots=True)
class Lease:
    """A device in exclusive use. A holder names lease and epoch together; a stale epoch is refused."""

    device: Device
    owner: str
    epoch: int
    deadline: float
    """When the lease ends unless it is renewed, on the caller's clock, in seconds."""
    idle: bool = False
    reclaimed: bool = False
    """The holder was told to stop; it is told once."""
    group: str = ""
    since: float = 0.0
    """When it was granted."""
    priority: int = 0
    """Of the request that it was granted to: a request of a higher one may take the device away."""


@dataclass(frozen=True, slots=True)
class Request:
    """Someone in line for a device."""

    owner: str
    selector: str
    asked_at: float
    deadline: float
    term: float
    priority: int = 0
    """Higher goes first."""
    group: str = ""
    """Whose share of the devices this counts against: groups that used less go first, at equal priority."""
    resumes: bool = False
    """The owner had a device and was suspended: its session goes on when this is granted."""


@dataclass(frozen=True, slots=True)
class Granted:
    """`owner`'s request became a lease."""

    owner: str
    lease: Lease
    resumes: bool = False
    """Its suspended session goes on."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """`owner` is in line behind `ahead` others that want a device it could have."""

    owner: str
    ahead: int


@dataclass(frozen=True, slots=True)
class Refused:
    """`owner` gets nothing, and why."""

    owner: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """The holder works, and a request of higher priority waits: save its session and call `suspended`.

    Where that cannot be done, call `kept`.
    """

    lease: Lease


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The holder is idle and someone waits: its instance must end. The device is free when the holder releases it."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Expired:
    """The lease ran out: its instance must be ended, without asking it."""

    lease: Lease


Decision = Granted | Waiting | Refused | Preempt | Reclaim | Expired


class StaleLeaseError(Exception):
    """The caller names a lease that is no longer its own."""


class NoSuchDeviceError(Exception):
    """No device matches what was asked for, held or not. The message lists what there is."""
