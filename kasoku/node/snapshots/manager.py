"""Which functions have a snapshot at hand. Instances ask; workers open or make what is missing, one at a time.

A function that cannot be initialised without its device is made by a second worker, which waits for one that nobody
else wants, so that the others need not wait with it.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

from kasoku.leases.model import Device
from kasoku.node.errors import PlatformError
from kasoku.node.logs import FunctionLog
from kasoku.node.site import Site
from kasoku.node.snapshots.builder import NeedsDeviceError, NoSnapshotError, build
from kasoku.node.snapshots.file import SnapshotDamagedError
from kasoku.node.snapshots.key import SnapshotKey, key_of
from kasoku.node.snapshots.loan import Lender, Recalled
from kasoku.node.snapshots.saved import Saved
from kasoku.node.snapshots.store import SnapshotStore
from kasoku.registry.model import FunctionVersion

_log = logging.getLogger(__name__)
MAX_REBUILDS = 3
"""After so many snapshots of one function that could not be used, its instances boot."""


class Snapshots:
    """One event loop. `find` is what a start needs and never waits."""

    def __init__(self, site: Site, log_of: Callable[[str], FunctionLog], budget_bytes: int) -> None:
        self._site = site
        self._log_of = log_of
        self._store = SnapshotStore(site.home.snapshots)
        self._budget = budget_bytes
        self._open: OrderedDict[str, tuple[Saved, int]] = OrderedDict()
        """By function version: the snapshot and its bytes, least recently used first."""
        self._without: dict[str, str] = {}
        """Versions that have none, and why."""
        self._failures: dict[str, int] = {}
        self._wanted: dict[str, FunctionVersion] = {}
        """What is looked for or being made."""
        self._idle = asyncio.Event()
        self._line: asyncio.Queue[FunctionVersion] = asyncio.Queue()
        self._device_line: asyncio.Queue[FunctionVersion] = asyncio.Queue()
        self._workers = [
            asyncio.create_task(self._serve(self._line, self._provide)),
            asyncio.create_task(self._serve(self._device_line, self._provide_with_device)),
        ]
        self.devices: list[Device] = []
        """What this node has."""
        self.lender: Lender | None = None
        """Where to get devices from; without one, functions that need them for their initialisation boot."""

    def find(self, function: FunctionVersion, device: Device | None = None) -> Saved | None:
        """A function's snapshot that fits the instance's device, to be closed; None while there is none: then it is
        looked for."""
        found = self._open.get(function.version)
        if found is None:
            self.want(function)
            return None
        saved = found[0]
        if saved.volumes != tuple(self._site.volume_files(function)):
            self._drop(function.version)
            self._warn(function, "its snapshot is made anew: a volume was replaced")
            self.want(function)
            return None
        if device and not saved.fits(device):
            # Another device of this node may be of its kind. If there is none any more, it serves nobody.
            if not any(saved.fits(other) for other in self.devices):
                self.reject(function, f"it needs {saved.device}, and this node has none")
            return None
        self._open.move_to_end(function.version)
        return saved.duplicate()

    def want(self, function: FunctionVersion) -> None:
        """Open the snapshot of a function, or make it."""
        known = (self._open, self._without, self._wanted)
        if not any(function.version in versions for versions in known):
            self._wanted[function.version] = function
            self._idle.clear()
            self._line.put_nowait(function)

    def reject(self, function: FunctionVersion, reason: str) -> None:
        """A snapshot could not be used: make another."""
        self._drop(function.version)
        with contextlib.suppress(PlatformError, OSError):
            self._store.remove(key_of(function, self._site))
        failures = self._failures[function.version] = self._failures.get(function.version, 0) + 1
        if failures >= MAX_REBUILDS:
            self._refuse(function, f"{failures} snapshots of it could not be used, the last because {reason}")
        else:
            self._warn(function, f"its snapshot is made anew: {reason}")
            self.want(function)

    def forget(self, function: FunctionVersion) -> None:
        """The version is gone, and its snapshot with it."""
        self._settle(function.version)
        self._without.pop(function.version, None)
        self._drop(function.version)
        with contextlib.suppress(PlatformError, OSError):
            self._store.remove(key_of(function, self._site))

    async def settled(self) -> None:
        """Wait until nothing is left to open or make."""
        if self._wanted:
            await self._idle.wait()

    async def close(self) -> None:
        """Stop working, close what is open."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.wait(self._workers)
        for version in list(self._open):
            self._drop(version)

    async def _serve(
        self, line: asyncio.Queue[FunctionVersion], provide: Callable[[FunctionVersion], Awaitable[bool]]
    ) -> None:
        if line is self._line:
            await asyncio.to_thread(self._store.sweep)
        while True:
            function = await line.get()
            if self._wanted.get(function.version) is not function:
                continue  # forgotten meanwhile
            settled = True
            try:
                settled = await provide(function)
            except NoSnapshotError as error:
                self._refuse(function, str(error))
            except PlatformError as error:
                self._refuse(function, error.message)
            except Exception:  # one function's trouble must not cost the others their snapshots
                _log.exception("a snapshot of %s cannot be made", function.name)
                self._refuse(function, "an internal error, which the server's log has")
            if settled:
                self._settle(function.version)

    def _settle(self, version: str) -> None:
        self._wanted.pop(version, None)
        if not self._wanted:
            self._idle.set()

    async def _provide(self, function: FunctionVersion) -> bool:
        """Open or make a snapshot; False when that needs a device, and is the other worker's."""
        volumes = tuple(self._site.volume_files(function))
        key = await asyncio.to_thread(key_of, function, self._site)
        try:
            if saved := await asyncio.to_thread(self._store.open, key):
                saved.volumes = volumes
                self._admit(function.version, saved)
                return True
        except SnapshotDamagedError as error:
            self._warn(function, f"its snapshot is made anew: {error}")
        try:
            saved = await build(function, self._site, self._log_of(function.name))
        except NeedsDeviceError as error:
            if self.lender is None:
                raise NoSnapshotError(str(error)) from None
            self._device_line.put_nowait(function)
            return False
        return await self._take(volumes, saved, function)

    async def _provide_with_device(self, function: FunctionVersion) -> bool:
        """Make a snapshot on a device that nobody else wants; again, when somebody did meanwhile."""
        assert self.lender
        volumes = tuple(self._site.volume_files(function))
        try:
            async with self.lender(function) as lease:
                saved = await build(function, self._site, self._log_of(function.name), lease)
        except Recalled:
            self._device_line.put_nowait(function)
            return False
        return await self._take(volumes, saved, function)

    async def _take(self, volumes: tuple[tuple[Path, str], ...], saved: Saved, function: FunctionVersion) -> bool:
        """It serves instances while it is written to disk. False when `volumes` are not those that it has seen."""
        key, saved.volumes = await asyncio.to_thread(key_of, function, self._site), volumes
        if volumes != tuple(self._site.volume_files(function)):
            saved.close()
            self._line.put_nowait(function)
            return False
        copy = saved.duplicate()
        try:
            self._admit(function.version, saved)
            await asyncio.to_thread(self._keep, key, copy, function)
            if function.version not in self._wanted:  # forgotten meanwhile
                await asyncio.to_thread(self._store.remove, key)
        finally:
            copy.close()
        return True

    def _keep(self, key: SnapshotKey, saved: Saved, function: FunctionVersion) -> None:
        try:
            self._store.save(key, saved)
        except (OSError, SnapshotDamagedError) as error:
            # It serves this agent all the same.
            self._warn(function, f"its snapshot cannot be kept on disk: {error}")

    def _admit(self, version: str, saved: Saved) -> None:
        if version not in self._wanted:  # forgotten meanwhile
            saved.close()
            return
        self._open[version] = (saved, saved.held_bytes)
        while len(self._open) > 1 and sum(size for _, size in self._open.values()) > self._budget:
            self._drop(next(iter(self._open)))

    def _drop(self, version: str) -> None:
        if found := self._open.pop(version, None):
            found[0].close()

    def _refuse(self, function: FunctionVersion, reason: str) -> None:
        self._without[function.version] = reason
        self._warn(function, f"no snapshot, instances boot: {reason}")

    def _warn(self, function: FunctionVersion, text: str) -> None:
        self._log_of(function.name).write(f"[kasoku] warning: {text}\n".encode(errors="backslashreplace"))
