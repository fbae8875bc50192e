"""What functions used, hour by hour: kept in memory, written to the registry every few seconds and at the end.

A crash loses what was not written yet: this is for looking at, not for bills that must be exact to the second.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kasoku.registry.database import Database

_HOUR = 3600
_COLUMNS = ("invocations", "errors", "cold", "duration_ms", "billed_ms", "mib_ms", "device_ms", "lease_wait_ms")


@dataclass(slots=True)
class Used:
    """Sums of one function in one hour."""

    invocations: int = 0
    errors: int = 0
    cold: int = 0
    duration_ms: float = 0.0
    billed_ms: float = 0.0
    """Each invocation rounded up to a millisecond, the start included, as Lambda bills it."""
    mib_ms: float = 0.0
    device_ms: float = 0.0
    lease_wait_ms: float = 0.0


class Usage:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sums: dict[tuple[int, str, str], Used] = {}

    def add(
        self, name: str, device: str, timings: Mapping[str, float], memory_mib: int, *, cold: bool, failed: bool
    ) -> None:
        """An invocation ended. `device` is empty without one."""
        key = (int(time.time()) // _HOUR, name, device)
        used = self._sums.get(key)
        if used is None:
            used = self._sums[key] = Used()
        duration = timings.get("duration_ms", 0.0)
        billed = math.ceil(duration + (timings.get("imports_ms", 0.0) if cold else 0.0))
        used.invocations += 1
        used.errors += failed
        used.cold += cold
        used.duration_ms += duration
        used.billed_ms += billed
        used.mib_ms += billed * memory_mib
        if device:
            used.device_ms += duration
            used.lease_wait_ms += timings.get("lease_ms", 0.0)

    def device_seconds(self, since: float) -> dict[str, float]:
        """Seconds for which invocations of each function held devices since a time, a whole hour."""
        rows = self._db.execute(
            "SELECT function, sum(device_ms) FROM usage WHERE hour >= ? GROUP BY function", (int(since) // _HOUR,)
        )
        return {str(function): float(total) / 1000 for function, total in rows.fetchall()}

    def flush(self) -> None:
        """Write what has come together."""
        sums, self._sums = self._sums, {}
        if not sums:
            return
        added = ", ".join(f"{column} = {column} + excluded.{column}" for column in _COLUMNS)
        with self._db.transaction():
            self._db.executemany(
                f"INSERT INTO usage VALUES ({', '.join('?' * (3 + len(_COLUMNS)))}) "
                f"ON CONFLICT (hour, function, device) DO UPDATE SET {added}",
                [(*key, *(getattr(used, column) for column in _COLUMNS)) for key, used in sums.items()],
            )

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        self._db.close()

    def report(self, since: float, hour_price: float) -> list[dict[str, Any]]:
        """Sums by function and device since a time, with what a device rented by the hour would have cost."""
        self.flush()
        sums = ", ".join(f"sum({column})" for column in _COLUMNS)
        rows = self._db.execute(
            f"SELECT function, device, count(DISTINCT hour), {sums} FROM usage WHERE hour >= ? "
            "GROUP BY function, device ORDER BY function, device",
            (int(since) // _HOUR,),
        )
        return [_line(row, hour_price) for row in rows.fetchall()]


def _line(row: Iterable[Any], hour_price: float) -> dict[str, Any]:
    function, device, hours, *sums = row
    used = dict(zip(_COLUMNS, sums, strict=True))
    line: dict[str, Any] = {"function": function, "device": device or None}
    line |= {key: used[key] for key in ("invocations", "errors", "cold")}
    line |= {"duration_s": used["duration_ms"] / 1000, "billed_s": used["billed_ms"] / 1000}
    line |= {"gib_s": used["mib_ms"] / 1000 / 1024, "lease_wait_s": used["lease_wait_ms"] / 1000}
    if device:
        seconds = used["device_ms"] / 1000
        line |= {
            "device_s": seconds,
            "device_cost": seconds / _HOUR * hour_price,
            # One that is rented by the hour is paid for each hour in which it was used at all.
            "rented_cost": hours * hour_price,
        }
    return line
