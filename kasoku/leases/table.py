"""The lease table of one node.

Invariants: a device has at most one lease; epochs only grow; a device that was taken from an expired holder is free
only after `release`, which the agent calls when the broker is gone (until then the old holder could still reach it).
"""

import math
from collections.abc import Iterable

from kasoku.leases.model import (
    Decision,
    Device,
    Expired,
    Granted,
    Lease,
    NoSuchDeviceError,
    Preempt,
    Reclaim,
    Refused,
    Request,
    StaleLeaseError,
    Waiting,
)

HALF_LIFE_SECONDS = 300.0
"""After so long, use counts half against a group's share."""


class LeaseTable:
    """Exclusive leases and the line for them. Times are seconds of any one clock, passed in.

    First in line is the highest priority, then the group that used devices least of late, then who came first.
    """

    def __init__(self, devices: Iterable[Device], first_epoch: int = 1) -> None:
        self.devices = {device.id: device for device in devices}
        self.leases: dict[str, Lease] = {}
        self.queue: list[Request] = []
        self._epoch = first_epoch
        self._used: dict[str, tuple[float, float]] = {}
        """Seconds of use by group, and when they were counted."""

    def check(self, selector: str) -> None:
        """Raise NoSuchDeviceError if nothing here matches."""
        if not any(d.matches(selector) for d in self.devices.values()):
            there = ", ".join(d.full_id for d in self.devices.values()) or "no accelerator at all"
            raise NoSuchDeviceError(f"no device matches {selector!r}; there is: {there}")

    def ask(
        self,
        owner: str,
        selector: str,
        now: float,
        *,
        wait: bool,
        deadline: float,
        term: float,
        priority: int = 0,
        group: str = "",
    ) -> list[Decision]:
        """Ask for a device: Granted, Waiting (with Reclaim of an idle holder), or Refused. Owners are unique.

        `deadline` is how long to stay in line, `term` how many seconds a lease lasts before it must be renewed.
        """
        try:
            self.check(selector)
        except NoSuchDeviceError as error:
            return [Refused(owner, str(error))]
        request = Request(owner, selector, now, deadline, term, priority, group)
        # A free device is wanted by nobody in line (`release` saw to that), so taking it overtakes no one.
        if device := self._free(selector):
            return [self._grant(request, device, now)]
        if not wait:
            held = ", ".join(
                f"{v.device.full_id} by {v.owner}" for v in self.leases.values() if v.device.matches(selector)
            )
            return [
                Refused(owner, f"every device that matches {selector!r} is in use ({held or 'promised to others'})")
            ]
        ahead = sum(1 for r in self.queue if self._compete(r.selector, selector) and r.priority >= priority)
        self.queue.append(request)
        return [Waiting(owner, ahead), *self._reclaim(selector), *self.preempt()]

    def cancel(self, owner: str) -> None:
        """Leave the line; nothing happens if `owner` is not in it."""
        self.queue = [r for r in self.queue if r.owner != owner]

    def suspended(self, device_id: str, epoch: int, now: float, deadline: float) -> list[Decision]:
        """A preempted holder has given the device up, and stands in line for it again.

        `deadline`: until when it waits. Raises StaleLeaseError.
        """
        lease = self._held(device_id, epoch)
        again = Request(
            lease.owner,
            lease.device.full_id,
            lease.since,
            deadline,
            max(1.0, lease.deadline - now),
            lease.priority,
            lease.group,
            resumes=True,
        )
        # In line before the device is free: whoever wanted it may have left meanwhile.
        self.queue.append(again)
        return self.release(device_id, epoch, now)

    def kept(self, device_id: str, epoch: int) -> None:
        """A preempted holder could not be suspended and goes on; it may be named again. Raises StaleLeaseError."""
        self._held(device_id, epoch).reclaimed = False

    def preempt(self) -> list[Decision]:
        """Holders that must make room for requests of higher priority, each told once. Call it as time passes."""
        found: list[Decision] = []
        ordered = sorted(self.queue, key=lambda r: -r.priority)
        for index, request in enumerate(ordered):
            fitting = [v for v in self.leases.values() if v.device.matches(request.selector)]
            before = sum(1 for r in ordered[:index] if self._compete(r.selector, request.selector))
            if sum(1 for v in fitting if v.reclaimed) > before:
                continue  # a device is on its way to this one
            victims = [v for v in fitting if v.priority < request.priority and not v.reclaimed and not v.idle]
            if victims:
                # The one that has held its device for the shortest time has the least to lose.
                lease = min(victims, key=lambda v: (v.priority, -v.since))
                lease.reclaimed = True
                found.append(Preempt(lease))
        return found

    def renew(self, device_id: str, epoch: int, deadline: float, *, idle: bool) -> list[Decision]:
        """The holder starts or ends work and moves its deadline. One that is idle now may be told Reclaim.

        Raises StaleLeaseError if the lease is another's by now.
        """
        lease = self._held(device_id, epoch)
        lease.idle = idle
        lease.deadline = deadline
        return self._reclaim_for(lease) if idle else []

    def release(self, device_id: str, epoch: int, now: float) -> list[Decision]:
        """Give the device back; it goes to the first in line that can use it. Raises StaleLeaseError."""
        lease = self._held(device_id, epoch)
        del self.leases[device_id]
        self._used[lease.group] = (self.used(lease.group, now) + max(0.0, now - lease.since), now)
        request = self._first(lease.device, now)
        if request is None:
            return []
        self.queue.remove(request)
        return [self._grant(request, lease.device, now)]

    def used(self, group: str, now: float) -> float:
        """Seconds for which a group held devices, older ones counting less."""
        seconds, at = self._used.get(group, (0.0, now))
        return seconds * math.pow(0.5, (now - at) / HALF_LIFE_SECONDS)

    def expire(self, now: float) -> list[Decision]:
        """Requests that waited too long are Refused, leases past their deadline Expired. Call it as time passes."""
        late = [r for r in self.queue if r.deadline <= now]
        self.queue = [r for r in self.queue if r.deadline > now]
        gone: list[Decision] = [
            Refused(r.owner, f"no device that matches {r.selector!r} became free in time") for r in late
        ]
        for lease in self.leases.values():
            if lease.deadline <= now and not lease.reclaimed:
                lease.reclaimed = True
                gone.append(Expired(lease))
        return gone

    def goes_before(self, device_id: str, priority: int, asked_at: float, now: float) -> bool:
        """Whether somebody in line should have this device before work of its holder that came at `asked_at`."""
        first = self._first(self.devices[device_id], now)
        if first is None:
            return False
        return first.priority > priority or (first.priority == priority and first.asked_at < asked_at)

    def _first(self, device: Device, now: float) -> Request | None:
        fitting = [r for r in self.queue if device.matches(r.selector)]
        return min(fitting, key=lambda r: (-r.priority, self.used(r.group, now), r.asked_at), default=None)

    def could_grant(self, selector: str) -> bool:
        """Whether `ask` would be granted at once."""
        return self._free(selector) is not None

    def free(self, selector: str) -> int:
        """How many devices `ask` would grant at once, one after the other."""
        return sum(1 for d in self.devices.values() if d.id not in self.leases and d.matches(selector))

    def _free(self, selector: str) -> Device | None:
        return next((d for d in self.devices.values() if d.id not in self.leases and d.matches(selector)), None)

    def _grant(self, request: Request, device: Device, now: float) -> Granted:
        deadline, group = now + request.term, request.group
        lease = Lease(device, request.owner, self._epoch, deadline, group=group, since=now, priority=request.priority)
        self._epoch += 1
        self.leases[device.id] = lease
        return Granted(request.owner, lease, request.resumes)

    def _held(self, device_id: str, epoch: int) -> Lease:
        lease = self.leases.get(device_id)
        if lease is None or lease.epoch != epoch:
            raise StaleLeaseError(f"epoch {epoch} of {device_id} is over")
        return lease

    def _compete(self, first: str, second: str) -> bool:
        return any(d.matches(first) and d.matches(second) for d in self.devices.values())

    def _reclaim(self, selector: str) -> list[Decision]:
        """Ask one idle holder to stop for the request that was queued last, unless one is stopping for it already."""
        candidates = [v for v in self.leases.values() if v.device.matches(selector)]
        stopping = sum(1 for v in candidates if v.reclaimed)
        if stopping >= sum(1 for r in self.queue if self._compete(r.selector, selector)):
            return []
        for lease in candidates:
            if lease.idle and not lease.reclaimed:
                lease.reclaimed = True
                return [Reclaim(lease)]
        return []

    def _reclaim_for(self, lease: Lease) -> list[Decision]:
        wanted = [r for r in self.queue if lease.device.matches(r.selector)]
        stopping = sum(
            1 for v in self.leases.values() if v.reclaimed and any(v.device.matches(r.selector) for r in wanted)
        )
        if lease.reclaimed or stopping >= len(wanted):
            return []
        lease.reclaimed = True
        return [Reclaim(lease)]
