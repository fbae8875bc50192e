"""The agent of one host: makes instances, keeps logs, knows devices and memory."""

import os
from pathlib import Path

from kasoku.leases.model import Device, Lease
from kasoku.node.broker import as_device, list_devices
from kasoku.node.errors import PlatformError
from kasoku.node.instance import Instance
from kasoku.node.logs import FunctionLog
from kasoku.node.shells import Shells
from kasoku.node.site import Site
from kasoku.node.snapshots.loan import Lender
from kasoku.node.snapshots.manager import Snapshots
from kasoku.node.standbys import Standbys
from kasoku.registry.model import FunctionVersion

MEMORY_SHARE = 0.85
"""Of the host's memory, what instances may be promised; the rest is for layers in the page cache and for the agent."""
SNAPSHOT_SHARE = 0.25
"""Of the same, what snapshots may hold open. Instances share these pages until they write them."""


class NodeAgent:
    """See the module. One event loop."""

    def __init__(
        self, site: Site, memory_mib: int | None = None, snapshots: bool = True, *, json_logs: bool = False
    ) -> None:
        self.site = site
        self._json_logs = json_logs
        self.memory_mib = memory_mib or int(host_memory_mib() * MEMORY_SHARE)
        self.max_starting = 2 * (os.cpu_count() or 1)
        self.listed: list[dict[str, object]] = []
        self.device_error = ""
        self._logs: dict[str, FunctionLog] = {}
        budget = int(self.memory_mib * SNAPSHOT_SHARE) << 20
        self.snapshots = Snapshots(site, self.log, budget) if snapshots else None
        self.shells = Shells(site.native, self.max_starting) if snapshots else None
        self.standbys = Standbys(site.native, site.home.leases) if snapshots else None

    def lend_devices(self, lender: Lender) -> None:
        """Where snapshots get devices from."""
        if self.snapshots:
            self.snapshots.lender = lender

    async def find_devices(self) -> list[Device]:
        """The devices that brokers can serve. A machine without any works too: `device_error` says what was wrong."""
        try:
            self.listed = await list_devices(self.site.native)
        except PlatformError as error:
            self.device_error = error.message
            return []
        devices = [as_device(listed) for listed in self.listed]
        if self.snapshots:
            self.snapshots.devices = devices
        if self.standbys:
            self.standbys.devices = devices
        return devices

    def log(self, name: str) -> FunctionLog:
        """The log of a function."""
        if name not in self._logs:
            self._logs[name] = FunctionLog(self.site.home.logs, name)
        return self._logs[name]

    def forget_log(self, name: str) -> None:
        """Delete the log of a function that is gone."""
        log = self._logs.pop(name, None) or FunctionLog(self.site.home.logs, name)
        log.close()
        for path in (log.path, log.path.with_name(log.path.name + ".1")):
            path.unlink(missing_ok=True)

    def instance(self, id: str, function: FunctionVersion, lease: Lease | None) -> Instance:
        """An instance that is not started yet."""
        log = self.log(function.name)
        return Instance(
            id,
            function,
            self.site,
            log,
            lease,
            self.snapshots,
            self.shells,
            self.standbys,
            json_logs=self._json_logs,
        )

    def prepare(self, function: FunctionVersion) -> None:
        """See to it that instances of a function start fast."""
        if self.snapshots:
            self.snapshots.want(function)
        if self.standbys and function.options.accelerator:
            self.standbys.want(function.version, function.options.accelerator)

    def forget(self, function: FunctionVersion) -> None:
        """A version is gone."""
        if self.snapshots:
            self.snapshots.forget(function)
        if self.standbys:
            self.standbys.forget(function.version)

    async def close(self) -> None:
        """Close logs and snapshots."""
        if self.snapshots:
            await self.snapshots.close()
        if self.shells:
            await self.shells.close()
        if self.standbys:
            await self.standbys.close()
        for log in self._logs.values():
            log.close()


def host_memory_mib() -> int:
    """Memory that this process may use: the machine's, or less if a control group says so."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            total = min(total, int(limit.read_text()))
        except (OSError, ValueError):
            continue  # no such control group, or "max"
    return total >> 20
