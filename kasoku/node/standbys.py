"""Brokers that have opened a device before anybody has it, so that a start need not wait for a driver.

They hold no device and have seen no guest: a device with one counts as free, whoever gets it takes the broker with it,
and a broker is used once. Each costs what an initialised driver takes of memory, so there is one for a device that
deployed functions ask for, and `MOST` in all.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

from kasoku.leases.model import Device
from kasoku.node.broker import Broker
from kasoku.node.errors import PlatformError
from kasoku.node.native import Native

_log = logging.getLogger(__name__)
MOST = 8
"""Of a node."""
PAUSE_SECONDS = 0.2
"""Before one is replaced: whoever took it goes first."""
RETRY_SECONDS = 60.0
"""After one that could not be had, or that ended by itself."""


class Standbys:
    """One event loop. `take` is what a start needs and never waits."""

    def __init__(self, native: Native, leases: Path) -> None:
        self._native = native
        self._leases = leases
        self._wanted: dict[str, str] = {}
        """By function version: what it asks for."""
        self._ready: dict[str, Broker] = {}
        """By device."""
        self._failed: dict[str, float] = {}
        """Devices for which none could be had, and when that was."""
        self._changed = asyncio.Event()
        self._complete = asyncio.Event()
        self._devices: list[Device] = []
        self._worker = asyncio.create_task(self._work())

    @property
    def devices(self) -> list[Device]:
        """What this node has."""
        return self._devices

    @devices.setter
    def devices(self, devices: list[Device]) -> None:
        self._devices = devices
        self._look()

    def want(self, version: str, selector: str) -> None:
        """A function wants a device that the selector names."""
        self._wanted[version] = selector
        self._look()

    def forget(self, version: str) -> None:
        """A function is gone."""
        if self._wanted.pop(version, None) is not None:
            self._look()

    def take(self, device: Device) -> Broker | None:
        """The one for that device, which is the caller's from here on; None while there is none."""
        broker = self._ready.pop(device.id, None)
        self._look()
        return broker if broker and not broker.exited.done() else None

    def pid(self, device_id: str) -> int | None:
        """The process that stands by for a device."""
        broker = self._ready.get(device_id)
        return broker.pid if broker else None

    async def settled(self) -> None:
        """Wait until all that are wanted stand by, as far as they can be had."""
        await self._complete.wait()

    async def close(self) -> None:
        """End them."""
        self._worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        brokers, self._ready = list(self._ready.values()), {}
        await asyncio.gather(*(broker.stop() for broker in brokers))

    def _look(self) -> None:
        self._complete.clear()
        self._changed.set()

    def _chosen(self) -> list[Device]:
        """The devices that have one, or should."""
        wanted = [d for d in self._devices if any(d.matches(selector) for selector in self._wanted.values())]
        return wanted[:MOST]

    def _missing(self, now: float) -> list[Device]:
        return [
            device
            for device in self._chosen()
            if device.id not in self._ready and now - self._failed.get(device.id, -RETRY_SECONDS) >= RETRY_SECONDS
        ]

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            chosen = {device.id for device in self._chosen()}
            for id in [id for id in self._ready if id not in chosen]:
                await self._ready.pop(id).stop()
            if missing := self._missing(loop.time()):
                await asyncio.sleep(PAUSE_SECONDS)
                await self._add(missing[0])
                continue
            if not self._changed.is_set():
                self._complete.set()
            failed = [self._failed[device.id] for device in self._chosen() if device.id in self._failed]
            again = min(failed) + RETRY_SECONDS - loop.time() if failed else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), again)

    async def _add(self, device: Device) -> None:
        self._failed.pop(device.id, None)
        try:
            broker = await Broker.standby(self._native, device, self._leases)
        except PlatformError as error:
            _log.warning("%s", error.message)
            self._fail(device)
            return
        self._ready[device.id] = broker
        broker.exited.add_done_callback(lambda _: self._on_end(device, broker))

    def _on_end(self, device: Device, broker: Broker) -> None:
        """One that nobody has taken has ended: its device may be gone."""
        if self._ready.get(device.id) is broker:
            del self._ready[device.id]
            self._fail(device)
            self._look()

    def _fail(self, device: Device) -> None:
        self._failed[device.id] = asyncio.get_running_loop().time()
