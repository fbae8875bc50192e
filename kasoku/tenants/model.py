"""Names that belong to tenants, and a tenant's limits.

Everything that has a name (functions, secrets, schedules) is kept under `TENANT.NAME`, and the dot can be in no name
that a client says: one tenant cannot spell what is another's. What the operator makes has no tenant and no dot, and
keys without a tenant are the operator's: they reach everything, by its whole name.
"""

from dataclasses import dataclass

OPERATOR = ""
SEPARATOR = "."
MAX_NAME = 32


@dataclass(frozen=True, slots=True)
class Tenant:
    """Limits; None: no limit but the node's."""

    name: str
    concurrency: int | None = None
    """Invocations that run or wait at a time."""
    memory_mib: int | None = None
    """MiB of all instances together."""
    device_seconds: float | None = None
    """Seconds of invocations that hold a device, in a day of UTC."""
    rate: float | None = None
    """Requests a second, in the long run."""
    burst: int | None = None
    """Requests at once; as many as come in a second by default."""


def qualify(tenant: str, name: str) -> str:
    """The whole name of what a tenant calls `name`."""
    return f"{tenant}{SEPARATOR}{name}" if tenant else name


def owner(name: str) -> str:
    """The tenant that a whole name belongs to."""
    return name.partition(SEPARATOR)[0] if SEPARATOR in name else OPERATOR


def local(name: str) -> str:
    """What a whole name is called by its tenant."""
    return name.rpartition(SEPARATOR)[2]


def reaches(tenant: str, name: str) -> bool:
    """Whether a caller may see what has this whole name."""
    return tenant == OPERATOR or owner(name) == tenant


def shown(tenant: str, name: str) -> str:
    """A whole name as a caller of that tenant writes it."""
    return local(name) if tenant else name
