"""What each tenant may have at a time, a second and a day. The operator has no limit but the node's."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable

from kasoku.node.errors import PlatformError
from kasoku.registry.model import FunctionVersion
from kasoku.registry.tenants import TenantStore
from kasoku.tenants.bucket import Bucket
from kasoku.tenants.model import Tenant, owner

_DAY = 86400.0


class Quotas:
    """See the module. One event loop.

    `edition` changes when tenants may have been changed; `used` tells seconds of devices by function since a time.
    """

    def __init__(
        self, store: TenantStore, edition: Callable[[], int], used: Callable[[float], dict[str, float]]
    ) -> None:
        self._store = store
        self._edition = edition
        self._loaded: int | None = None
        self._tenants: dict[str, Tenant] = {}
        self._buckets: dict[str, Bucket] = {}
        self._running: Counter[str] = Counter()
        self._day = _today()
        self._device_seconds: defaultdict[str, float] = defaultdict(float)
        for function, seconds in used(self._day * _DAY).items():
            self._device_seconds[owner(function)] += seconds

    def request(self, tenant: str) -> None:
        """A request of a tenant's key came in. Raises PlatformError (429) when there were too many of late."""
        if not tenant:
            return
        limits = self._limits(tenant)
        if limits.rate is None:
            return
        now = time.monotonic()
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = Bucket(limits.rate, limits.burst or limits.rate, now)
        if (wait_s := bucket.take(now)) > 0:
            raise _too_much(f"Rate Exceeded: {tenant} may send {limits.rate:g} requests a second", wait_s)

    def enter(self, function: FunctionVersion) -> None:
        """An invocation of a tenant's function begins; `leave` ends it. Raises PlatformError (429)."""
        tenant = function.tenant
        limits = self._limits(tenant)
        if limits.concurrency is not None and self._running[tenant] >= limits.concurrency:
            raise _too_much(f"Rate Exceeded: {tenant} may have {limits.concurrency} invocations at a time", 1.0)
        if function.options.accelerator and limits.device_seconds is not None:
            self._turn_page()
            if self._device_seconds[tenant] >= limits.device_seconds:
                left = (self._day + 1) * _DAY - time.time()
                message = f"{tenant} has used up its {limits.device_seconds:g} device-seconds of this day (UTC)"
                raise _too_much(message, left)
        self._running[tenant] += 1

    def leave(self, tenant: str, device_seconds: float) -> None:
        """An invocation has ended, which held a device for so long."""
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        if device_seconds:
            self._turn_page()
            self._device_seconds[tenant] += device_seconds

    def memory_mib(self, tenant: str) -> int | None:
        """What a tenant's instances may have together."""
        return self._limits(tenant).memory_mib if tenant else None

    def _limits(self, tenant: str) -> Tenant:
        if (edition := self._edition()) != self._loaded:
            before, self._tenants = self._tenants, {found.name: found for found in self._store.list()}
            self._loaded = edition
            # Whatever else was written, usage for one, must not fill anybody's bucket.
            for name in [name for name in self._buckets if self._tenants.get(name) != before.get(name)]:
                del self._buckets[name]
        return self._tenants.get(tenant) or Tenant(tenant)

    def _turn_page(self) -> None:
        if (today := _today()) != self._day:
            self._day = today
            self._device_seconds.clear()


def _today() -> int:
    return int(time.time() // _DAY)


def _too_much(message: str, wait_s: float) -> PlatformError:
    return PlatformError("TooManyRequestsException", message, retry_after_s=wait_s)
