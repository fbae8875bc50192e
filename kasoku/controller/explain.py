"""A decision about leases in one line, for `kasoku events`."""

from kasoku.leases.model import Decision, Expired, Granted, Preempt, Reclaim, Refused, Waiting


def explain(decision: Decision) -> str:
    """Who gets, loses or waits for which device."""
    match decision:
        case Granted(owner, lease):
            return f"{lease.device.full_id} goes to {owner} (epoch {lease.epoch & 0xFFFFFFFF})"
        case Waiting(owner, ahead):
            return f"{owner} waits for a device, {ahead} before it"
        case Refused(owner, reason):
            return f"{owner} gets no device: {reason}"
        case Preempt(lease):
            return f"{lease.device.full_id} is wanted by a higher priority: {lease.owner} is to be suspended"
        case Reclaim(lease):
            return f"{lease.device.full_id} is wanted: {lease.owner}, idle, must end"
        case Expired(lease):
            return f"the lease of {lease.owner} on {lease.device.full_id} ran out"
