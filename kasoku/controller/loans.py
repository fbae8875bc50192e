"""Devices lent to makers of snapshots. They come last: they take what is free, and give it up when anybody asks."""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from kasoku.leases.model import Decision, Granted, Lease
from kasoku.leases.table import LeaseTable
from kasoku.node.snapshots.loan import Recalled
from kasoku.registry.model import FunctionVersion


@dataclass(eq=False)
class _Loan:
    selector: str
    granted: "asyncio.Future[Lease]"
    recalled: asyncio.Event = field(default_factory=asyncio.Event)


class Loans:
    """One event loop. `act` carries out what a returned device leads to."""

    def __init__(self, leases: LeaseTable, act: Callable[[list[Decision]], None]) -> None:
        self._leases = leases
        self._act = act
        self._loans: dict[str, _Loan] = {}

    @contextlib.asynccontextmanager
    async def lend(self, function: FunctionVersion) -> AsyncIterator[Lease]:
        """A `Lender`. Raises PlatformError."""
        owner, selector = f"s-{secrets.token_hex(6)}", function.options.accelerator
        assert selector
        loan = self._loans[owner] = _Loan(selector, asyncio.get_running_loop().create_future())
        try:
            self.offer()
            lease = await loan.granted
            watch = asyncio.create_task(_cancel_when(loan.recalled, asyncio.current_task()))
            try:
                yield lease
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if loan.recalled.is_set() and task and task.uncancel() == 0:
                    raise Recalled from None
                raise
            finally:
                watch.cancel()
        finally:
            del self._loans[owner]
            if loan.granted.done() and not loan.granted.cancelled():
                lease = loan.granted.result()
                self._act(self._leases.release(lease.device.id, lease.epoch, time.monotonic()))

    def offer(self) -> None:
        """Something may have become free."""
        for owner, loan in self._loans.items():
            if loan.granted.done() or not self._leases.could_grant(loan.selector):
                continue
            now = time.monotonic()
            for decision in self._leases.ask(owner, loan.selector, now, wait=False, deadline=now, term=math.inf):
                if isinstance(decision, Granted):
                    # An idle holder is asked to stop when somebody waits.
                    decision.lease.idle = True
                    loan.granted.set_result(decision.lease)

    def recall(self, lease: Lease) -> bool:
        """The lease is wanted back; False if it is not a loan."""
        loan = self._loans.get(lease.owner)
        if loan is None:
            return False
        loan.recalled.set()
        return True

    def holds(self, selector: str) -> bool:
        """Whether a device is on loan that the selector names: it will be free in a moment."""
        given = (loan.granted.result() for loan in self._loans.values() if loan.granted.done())
        return any(lease.device.matches(selector) for lease in given)


async def _cancel_when(event: asyncio.Event, task: "asyncio.Task[object] | None") -> None:
    await event.wait()
    if task:
        task.cancel()
