"""What the routes share: the functions that are deployed, the controller, the registry."""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kasoku.blobs.store import BlobStore
from kasoku.controller.controller import Controller, Served
from kasoku.gateway.calls import Calls
from kasoku.gateway.catalog import Catalog
from kasoku.gateway.deploy import Code, Deployer, Plan
from kasoku.gateway.quotas import Quotas
from kasoku.leases.table import LeaseTable
from kasoku.node.agent import NodeAgent
from kasoku.node.errors import FunctionFailed, PlatformError
from kasoku.node.layers import LayerSource
from kasoku.node.outcome import Invocation, Keeper, Lent
from kasoku.registry.database import Database
from kasoku.registry.model import FunctionVersion, Record, Resolved
from kasoku.registry.secrets import KeyStore, SecretStore
from kasoku.registry.store import MIGRATIONS, Registry
from kasoku.registry.tenants import TenantStore
from kasoku.telemetry.events import Events
from kasoku.telemetry.metrics import Metrics
from kasoku.telemetry.traces import Trace, Traces
from kasoku.telemetry.usage import Usage
from kasoku.tenants.model import owner, qualify

_log = logging.getLogger(__name__)
FLUSH_SECONDS = 5.0
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of the configuration; see `kasoku.config`."""

    device_hour_price: float = 1.0
    keep_results_s: float = 24 * 3600.0
    max_async_running: int = 128
    blob_bytes: int = 4096 << 20
    """Of blobs, for each tenant."""
    keep_blobs_s: float = 24 * 3600.0
    otlp_endpoint: str | None = None
    """Base URL of a collector that traces are posted to."""


DEFAULTS = Settings()


class Platform:
    """Open it on a running event loop with `start`; `close` ends every process that it started."""

    def __init__(
        self,
        node: NodeAgent,
        registry: Registry,
        secrets: SecretStore,
        controller: Controller,
        layers: LayerSource,
        settings: Settings,
    ) -> None:
        self.node = node
        self.settings = settings
        self.registry = registry
        self.catalog = Catalog(registry)
        self.controller = controller
        self.secrets = secrets
        self.keys = KeyStore(registry)
        self.metrics = Metrics()
        self.traces = Traces(settings.otlp_endpoint)
        # A connection of its own: it is written in a worker thread, so that no invocation waits for the disk.
        self.usage = Usage(Database(node.site.home.state_db, MIGRATIONS))
        self.quotas = Quotas(TenantStore(registry), lambda: self.keys.edition, self.usage.device_seconds)
        self.blobs = BlobStore(node.site.home.blobs, settings.blob_bytes, settings.keep_blobs_s)
        controller.memory_limit = self.quotas.memory_mib
        self._flushing = asyncio.create_task(self._flush_usage())
        self._deployer = Deployer(layers, node.site.home)
        self.calls = Calls.start(node.site.home, self)
        self._changing = asyncio.Lock()
        self._running: dict[str, int] = {}
        for record in self.catalog.records():
            self._welcome(record)

    @classmethod
    async def start(
        cls,
        node: NodeAgent,
        registry: Registry,
        secrets: SecretStore,
        layers: LayerSource,
        settings: Settings = DEFAULTS,
    ) -> "Platform":
        """Find devices, read the registry."""
        # Each start of an agent has a range of epochs of its own, so that a holder from before is always stale.
        leases = LeaseTable(await node.find_devices(), first_epoch=registry.next_generation() << 32)
        return cls(node, registry, secrets, Controller(node, leases, Events()), layers, settings)

    async def invoke(
        self,
        resolved: Resolved,
        request_id: str,
        payload: bytes,
        client_context: dict[str, Any] | None = None,
        *,
        frames: bool = False,
        accepts_frames: bool = False,
        blobs: Sequence[Lent] = (),
        keep: Callable[[], Keeper] | None = None,
        on_chunk: Callable[[bytes], Awaitable[None]] | None = None,
        raw_chunks: bool = False,
        traceparent: str | None = None,
    ) -> Served:
        """Run one event. Raises FunctionFailed when the function itself could not start, else PlatformError."""
        start = time.perf_counter()
        function = resolved.function
        record = self.catalog.find(function.name)
        limit = record.concurrency if record else None
        invocation = Invocation(
            request_id,
            payload,
            client_context,
            resolved.executed_version,
            resolved.arn,
            frames,
            accepts_frames,
            blobs,
            keep,
            on_chunk,
            raw_chunks,
        )
        trace = self.traces.begin(traceparent) if traceparent else None
        if trace:
            invocation.trace = trace.guest_parent
        try:
            served = await self._limited(function, limit, invocation)
        except PlatformError as error:
            self.metrics.refused(function.name, error.code)
            if trace:
                self.traces.end(trace, function.name, request_id, {}, (), error=error.message, attributes={})
            raise
        except FunctionFailed as error:
            self.metrics.refused(function.name, "error")
            if trace:
                self.traces.end(trace, function.name, request_id, {}, (), error=str(error), attributes={})
            raise
        if trace:
            self._trace(trace, function, request_id, served)
        self._count(function, served, (time.perf_counter() - start) * 1000)
        return served

    async def _limited(self, function: FunctionVersion, limit: int | None, invocation: Invocation) -> Served:
        """Within the tenant's limits and the reserved concurrency, as far as there are any."""
        if not function.tenant:
            return await self._reserved(function, limit, invocation)
        self.quotas.enter(function)
        seconds = 0.0
        try:
            served = await self._reserved(function, limit, invocation)
            if served.accelerator:
                seconds = served.timings.get("duration_ms", 0.0) / 1000
            return served
        finally:
            self.quotas.leave(function.tenant, seconds)

    async def _reserved(self, function: FunctionVersion, limit: int | None, invocation: Invocation) -> Served:
        if limit is None:
            return await self.controller.invoke(function, invocation)
        running = self._running.get(function.name, 0)
        if running >= limit:
            raise PlatformError(
                "TooManyRequestsException", f"Rate Exceeded: {function.name} has a reserved concurrency of {limit}"
            )
        self._running[function.name] = running + 1
        try:
            return await self.controller.invoke(function, invocation)
        finally:
            self._running[function.name] -= 1

    def _trace(self, trace: Trace, function: FunctionVersion, request_id: str, served: Served) -> None:
        failure = served.outcome.failure
        self.traces.end(
            trace,
            function.name,
            request_id,
            served.timings,
            served.outcome.spans,
            error=f"{failure.error_type}: {failure.error_message}" if failure else None,
            attributes={
                "faas.coldstart": served.cold,
                "faas.version": function.version,
                "kasoku.instance": served.instance_id,
                "kasoku.accelerator": served.accelerator or "",
            },
        )

    def _count(self, function: FunctionVersion, served: Served, total_ms: float) -> None:
        name, cold, failed = function.name, served.cold, served.outcome.failure is not None
        self.metrics.served(name, served.timings, total_ms=total_ms, cold=cold, failed=failed)
        device = served.accelerator or ""
        self.usage.add(name, device, served.timings, function.options.memory, cold=cold, failed=failed)

    async def _flush_usage(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.blobs.collect()
            try:
                await asyncio.to_thread(self.usage.flush)
            except sqlite3.Error as error:
                _log.error("usage cannot be written: %s", error)

    async def deploy(
        self, name: str, handler: object, options: object, code: Code, *, description: str | None = None
    ) -> Record:
        """Make layers of the code, and the result the function's current version. One change at a time."""
        async with self._changing:
            plan = self._deployer.check(name, handler, options)
            self._check_accelerator(plan.options.accelerator)
            self._check_secrets(plan)
            return self._replace(await self._deployer.build(plan, code), description)

    async def configure(self, name: str, handler: object, options: object, *, description: str | None = None) -> Record:
        """The code as it is, under another description. Raises PlatformError."""
        async with self._changing:
            previous = self.catalog.record(name).latest
            plan = self._deployer.check(name, handler, options)
            self._check_accelerator(plan.options.accelerator)
            self._check_secrets(plan)
            return self._replace(await self._deployer.rebuild(plan, previous), description)

    async def check_code(self, name: str, code: Code) -> None:
        """Build a function's current version with other code, and keep nothing. Raises PlatformError."""
        previous = self.catalog.record(name).latest
        plan = self._deployer.check(name, previous.handler, previous.options.to_json())
        await self._deployer.build(plan, code)

    def remove(self, name: str) -> None:
        """Forget a function; its instances end when they have finished. Raises PlatformError (404)."""
        self.catalog.record(name)
        self.registry.remove(name)
        self.changed(name)
        self.metrics.forget(name)
        self.node.forget_log(name)

    def changed(self, name: str) -> Record | None:
        """The registry has other versions of a function: instances of those that are gone drain and end."""
        before = self.catalog.find(name)
        record = self.catalog.refresh(name)
        versions = record.versions if record else frozenset[str]()
        self.controller.retire(name, versions)
        for function in before.functions if before else ():
            if function.version not in versions:
                self.node.forget(function)
        if record:
            self._welcome(record)
        return record

    def _welcome(self, record: Record) -> None:
        """What is called by a name of its own starts fast; what wants instances without work gets them."""
        for function in record.live:
            self.node.prepare(function)
        self.controller.keep([record.latest])

    async def close(self) -> None:
        """End everything."""
        self._flushing.cancel()
        await self.calls.close()
        await self.controller.close()
        await self.traces.close()
        await self.node.close()
        await asyncio.to_thread(self.usage.close)
        self.registry.close()

    def _replace(self, function: FunctionVersion, description: str | None) -> Record:
        self.registry.put(function, description)
        record = self.changed(function.name)
        assert record
        return record

    def _check_accelerator(self, selector: str | None) -> None:
        devices = self.controller.leases.devices.values()
        if selector and not any(d.matches(selector) for d in devices):
            there = ", ".join(d.full_id for d in devices) or f"no accelerator at all. {self.node.device_error}".strip()
            raise PlatformError(
                "InvalidParameterValueException", f"no device matches accelerator={selector!r}; there is: {there}"
            )

    def _check_secrets(self, plan: Plan) -> None:
        for name in plan.options.secrets:
            if self.secrets.get(qualify(owner(plan.name), name)) is None:
                raise missing_secret(name)


def missing_secret(name: str) -> PlatformError:
    """A function asks for a secret that nobody set."""
    message = f"there is no secret {name!r}; set it with `kasoku secret set {name}`"
    return PlatformError("InvalidParameterValueException", message)


def secret_values(store: SecretStore, function: FunctionVersion) -> dict[str, str]:
    """The values for an instance's environment. Raises PlatformError."""
    found: dict[str, str] = {}
    for name in function.options.secrets:
        value = store.get(qualify(function.tenant, name))
        if value is None:
            raise missing_secret(name)
        found[name] = value
    return found


def new_request_id() -> str:
    """A request id as Lambda's look."""
    # As uuid4 makes them, at a third of its cost.
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANTS[text[16]]}{text[17:20]}-{text[20:]}"
