"""The asynchronous side of the platform: the queue, its dispatcher and the schedules, bound to functions."""

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasoku.home import Home
from kasoku.node.errors import FunctionFailed, PlatformError
from kasoku.queue.delivery import deliver
from kasoku.queue.dispatcher import Dispatcher
from kasoku.queue.model import Attempt, Call, Policy
from kasoku.queue.schedule import Scheduler
from kasoku.queue.steady import SteadyClock
from kasoku.queue.store import QueueStore
from kasoku.queue.writer import GroupWriter, StoreFailed
from kasoku.registry.model import LATEST, Resolved
from kasoku.tenants.model import OPERATOR

if TYPE_CHECKING:
    from kasoku.gateway.platform import Platform

MAX_EVENT = 1 << 20
"""Bytes of an asynchronous event, as in Lambda."""
HOPELESS = frozenset({"ResourceNotFoundException", "InvalidParameterValueException", "RequestTooLargeException"})
"""Refusals that trying again does not change."""


@dataclass(slots=True)
class Calls:
    """See the module. Open it with `start` on a running event loop."""

    writer: GroupWriter
    dispatcher: Dispatcher
    scheduler: Scheduler
    _platform: "Platform"

    @classmethod
    def start(cls, home: Home, platform: "Platform") -> "Calls":
        """Open the queue; what was accepted before goes on."""
        store = QueueStore(home.queue_db)
        clock = SteadyClock()
        store.recover(clock())
        writer = GroupWriter(store)
        runner = _Runner(platform)
        settings = platform.settings
        dispatcher = Dispatcher(
            writer,
            runner.run,
            runner.arn,
            max_running=settings.max_async_running,
            keep_s=settings.keep_results_s,
            clock=clock,
        )
        return cls(writer, dispatcher, Scheduler(writer, dispatcher, runner.policy), platform)

    async def accept(
        self,
        resolved: Resolved,
        qualifier: str,
        payload: bytes,
        *,
        id: str,
        client_context: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        delay_s: float = 0.0,
    ) -> str:
        """Keep a call of a function; its id. It is on disk when this returns. Raises PlatformError."""
        if len(payload) > MAX_EVENT:
            message = f"Request must be smaller than {MAX_EVENT} bytes for the InvokeFunction operation (Event)"
            raise PlatformError("RequestTooLargeException", message)
        name = resolved.function.name
        try:
            return await self.dispatcher.accept(
                name,
                qualifier,
                payload,
                policy_of(self._platform, name, qualifier),
                id=id,
                client_context=None if client_context is None else json.dumps(client_context),
                idempotency_key=idempotency_key,
                delay_s=delay_s,
            )
        except StoreFailed as error:
            raise PlatformError("ServiceException", str(error)) from None

    async def counts(self, tenant: str = OPERATOR) -> dict[str, int]:
        """How many calls that a caller may see have not ended, by state."""
        return await self.writer.do(QueueStore.counts, tenant)

    async def close(self) -> None:
        """Stop; what was not finished is still on disk."""
        await self.scheduler.close()
        await self.dispatcher.close()
        await self.writer.close()


def policy_of(platform: "Platform", name: str, qualifier: str) -> Policy:
    """How calls of a function by a qualifier are treated."""
    record = platform.catalog.find(name)
    configured = record.event_invoke if record else {}
    config = configured.get(qualifier) or configured.get(LATEST)
    return Policy.of_config(config[0] if config else None)


class _Runner:
    """What the dispatcher asks of the platform."""

    def __init__(self, platform: "Platform") -> None:
        self._platform = platform

    def policy(self, name: str, qualifier: str) -> Policy:
        return policy_of(self._platform, name, qualifier)

    def arn(self, name: str, qualifier: str) -> str:
        record = self._platform.catalog.find(name)
        return f"{record.latest.arn}:{qualifier}" if record else name

    async def run(self, call: Call) -> Attempt:
        """One try."""
        if call.is_delivery:
            return await asyncio.to_thread(deliver, call.target, call.payload, call.id)
        try:
            resolved = self._platform.catalog.resolve(call.target, call.qualifier)
            context = json.loads(call.client_context) if call.client_context else None
            served = await self._platform.invoke(resolved, call.id, call.payload, context)
        except FunctionFailed as error:
            return Attempt(failure={**error.failure.to_json(), "requestId": call.id})
        except PlatformError as error:
            trouble = {"errorType": error.code, "errorMessage": error.message}
            return Attempt(trouble=trouble, hopeless=error.code in HOPELESS)
        outcome, version = served.outcome, resolved.executed_version
        if outcome.failure:
            return Attempt(failure={**outcome.failure.to_json(), "requestId": call.id}, executed_version=version)
        return Attempt(result=outcome.payload, executed_version=version)
