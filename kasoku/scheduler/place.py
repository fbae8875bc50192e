"""Whether a node has room for one more instance."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the scheduler knows of a node."""

    memory_mib: int
    """Memory that instances may use together."""
    used_mib: int
    """Memory promised to instances that exist."""
    starting: int
    """Instances that are being started."""
    max_starting: int
    """More starts than this at a time would only slow each other down."""


@dataclass(frozen=True, slots=True)
class IdleView:
    """An idle instance that could make room."""

    id: str
    memory_mib: int
    idle_since: float


@dataclass(frozen=True, slots=True)
class Start:
    """There is room."""


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """These idle instances must end first, longest idle first."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Later:
    """No room until something else ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """The node is too small."""

    reason: str


def place(node: NodeView, need_mib: int, idle: Sequence[IdleView]) -> Start | MakeRoom | Later | Never:
    """What to do for an instance that needs `need_mib`."""
    if need_mib > node.memory_mib:
        return Never(
            f"the function needs {need_mib} MiB, the node gives {node.memory_mib} MiB to all instances together"
        )
    if node.starting >= node.max_starting:
        return Later(f"{node.starting} instances are starting")
    missing = node.used_mib + need_mib - node.memory_mib
    if missing <= 0:
        return Start()
    chosen: list[str] = []
    for view in sorted(idle, key=lambda v: v.idle_since):
        chosen.append(view.id)
        missing -= view.memory_mib
        if missing <= 0:
            return MakeRoom(tuple(chosen))
    return Later(f"{node.used_mib} of {node.memory_mib} MiB are in use")
