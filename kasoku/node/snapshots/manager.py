"""Which functions have a snapshot at hand. Instances ask; a worker opens or makes what is missing, one at a time."""

import asyncio
import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Callable

from kasoku.node.errors import PlatformError
from kasoku.node.logs import FunctionLog
from kasoku.node.site import Site
from kasoku.node.snapshots.builder import NoSnapshotError, build
from kasoku.node.snapshots.file import SnapshotDamagedError
from kasoku.node.snapshots.key import SnapshotKey, key_of
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
        self._open: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """By function version: sealed memory and its bytes, least recently used first."""
        self._without: dict[str, str] = {}
        """Versions that have none, and why."""
        self._failures: dict[str, int] = {}
        self._wanted: OrderedDict[str, FunctionVersion] = OrderedDict()
        self._work = asyncio.Event()
        self._worker = asyncio.create_task(self._serve())
        self._idle = asyncio.Event()

    def find(self, function: FunctionVersion) -> int | None:
        """The sealed memory of a function's snapshot, to be closed; None while there is none: then it is looked for."""
        found = self._open.get(function.version)
        if found is None:
            self.want(function)
            return None
        self._open.move_to_end(function.version)
        return os.dup(found[0])

    def want(self, function: FunctionVersion) -> None:
        """Open the snapshot of a function, or make it. One with volumes has none: they may be replaced by name."""
        if function.options.volumes:
            return
        if function.version not in self._open and function.version not in self._without:
            self._wanted[function.version] = function
            self._idle.clear()
            self._work.set()

    def reject(self, function: FunctionVersion, reason: str) -> None:
        """A snapshot could not be used: make another."""
        self._drop(function.version)
        with contextlib.suppress(PlatformError, OSError):
            self._store.remove(key_of(function, self._site.native))
        failures = self._failures[function.version] = self._failures.get(function.version, 0) + 1
        if failures >= MAX_REBUILDS:
            self._refuse(function, f"{failures} snapshots of it could not be used, the last because {reason}")
        else:
            self._warn(function, f"its snapshot is made anew: {reason}")
            self.want(function)

    def forget(self, function: FunctionVersion) -> None:
        """The version is gone, and its snapshot with it."""
        self._wanted.pop(function.version, None)
        self._without.pop(function.version, None)
        self._drop(function.version)
        with contextlib.suppress(PlatformError, OSError):
            self._store.remove(key_of(function, self._site.native))

    async def settled(self) -> None:
        """Wait until nothing is left to open or make."""
        if self._wanted:
            await self._idle.wait()

    async def close(self) -> None:
        """Stop working, close what is open."""
        self._worker.cancel()
        await asyncio.wait([self._worker])
        for version in list(self._open):
            self._drop(version)

    async def _serve(self) -> None:
        await asyncio.to_thread(self._store.sweep)
        while True:
            await self._work.wait()
            while self._wanted:
                version, function = next(iter(self._wanted.items()))
                try:
                    await self._provide(function)
                except NoSnapshotError as error:
                    self._refuse(function, str(error))
                except PlatformError as error:
                    self._refuse(function, error.message)
                except Exception:  # one function's trouble must not cost the others their snapshots
                    _log.exception("a snapshot of %s cannot be made", function.name)
                    self._refuse(function, "an internal error, which the server's log has")
                self._wanted.pop(version, None)
            self._work.clear()
            self._idle.set()

    async def _provide(self, function: FunctionVersion) -> None:
        key = await asyncio.to_thread(key_of, function, self._site.native)
        memory: int | None = None
        try:
            memory = await asyncio.to_thread(self._store.open, key)
        except SnapshotDamagedError as error:
            self._warn(function, f"its snapshot is made anew: {error}")
        made = memory is None
        if memory is None:
            memory = await build(function, self._site, self._log_of(function.name))
        # It serves instances while it is written to disk.
        copy = os.dup(memory)
        try:
            self._admit(function.version, memory)
            if made:
                await asyncio.to_thread(self._keep, key, copy, function)
                if function.version not in self._wanted:  # forgotten meanwhile
                    await asyncio.to_thread(self._store.remove, key)
        finally:
            os.close(copy)

    def _keep(self, key: SnapshotKey, memory: int, function: FunctionVersion) -> None:
        try:
            self._store.save(key, memory)
        except (OSError, SnapshotDamagedError) as error:
            # It serves this agent all the same.
            self._warn(function, f"its snapshot cannot be kept on disk: {error}")

    def _admit(self, version: str, memory: int) -> None:
        if version not in self._wanted:  # forgotten meanwhile
            os.close(memory)
            return
        size = os.fstat(memory).st_blocks * 512
        self._open[version] = (memory, size)
        while len(self._open) > 1 and sum(size for _, size in self._open.values()) > self._budget:
            self._drop(next(iter(self._open)))

    def _drop(self, version: str) -> None:
        if found := self._open.pop(version, None):
            os.close(found[0])

    def _refuse(self, function: FunctionVersion, reason: str) -> None:
        self._without[function.version] = reason
        self._warn(function, f"no snapshot, instances boot: {reason}")

    def _warn(self, function: FunctionVersion, text: str) -> None:
        self._log_of(function.name).write(f"[kasoku] warning: {text}\n".encode(errors="backslashreplace"))
