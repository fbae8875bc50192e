"""What processes have used, from Linux's own books."""

from __future__ import annotations

import contextlib
from pathlib import Path


def processor_time_ns(pid: int) -> int:
    """Returns the nanoseconds that all threads of a process and of its descendants have run so far."""
    total = 0
    for process in [pid, *descendants(pid)]:
        for schedule in Path("/proc", str(process), "task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                total += int(schedule.read_text().split()[0])
    return total


def descendants(pid: int) -> list[int]:
    """Returns the children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The fields after the name, which may hold blanks and parentheses.
            parent = int(status.read_text().rpartition(") ")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]
