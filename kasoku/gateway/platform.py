"""What the routes share: the functions that are deployed, the controller, the registry."""

import asyncio
import uuid

from kasoku.controller.controller import Controller
from kasoku.gateway.deploy import Code, Deployer
from kasoku.gateway.names import LATEST
from kasoku.leases.table import LeaseTable
from kasoku.node.agent import NodeAgent
from kasoku.node.errors import PlatformError
from kasoku.node.layers import LayerSource
from kasoku.registry.model import FunctionVersion
from kasoku.registry.store import Registry


class Platform:
    """Open it on a running event loop with `start`; `close` ends every process that it started."""

    def __init__(self, node: NodeAgent, registry: Registry, controller: Controller, layers: LayerSource) -> None:
        self.node = node
        self.registry = registry
        self.controller = controller
        self._deployer = Deployer(layers, node.site.home)
        self._functions = {d.function.name: d.function for d in registry.list()}
        self._deploying = asyncio.Lock()
        for function in self._functions.values():
            node.prepare(function)

    @classmethod
    async def start(cls, node: NodeAgent, layers: LayerSource) -> "Platform":
        """Find devices, open the registry."""
        registry = Registry(node.site.home.state_db)
        # Each start of an agent has a range of epochs of its own, so that a holder from before is always stale.
        leases = LeaseTable(await node.find_devices(), first_epoch=registry.next_generation() << 32)
        return cls(node, registry, Controller(node, leases), layers)

    def function(self, name: str, qualifier: str = LATEST) -> FunctionVersion:
        """A deployed function. Raises PlatformError (404)."""
        function = self._functions.get(name)
        if function is None:
            raise PlatformError("ResourceNotFoundException", f"Function not found: {name}")
        if qualifier not in (LATEST, function.version):
            raise PlatformError("ResourceNotFoundException", f"Function not found: {name}:{qualifier}")
        return function

    async def deploy(self, name: str, handler: str, options: dict[str, object], code: Code) -> FunctionVersion:
        """Make layers of the code, and the result the function's current version. One deployment at a time."""
        async with self._deploying:
            plan = self._deployer.check(name, handler, options)
            if plan.options.accelerator:
                self._check_accelerator(plan.options.accelerator)
            function = await self._deployer.build(plan, code)
            self.registry.put(function)
            before = self._functions.get(name)
            if before and before.version != function.version:
                self.node.forget(before)
            self._functions[name] = function
            self.node.prepare(function)
            self.controller.retire(name, function.version)
            return function

    def remove(self, name: str) -> None:
        """Forget a function; its instances end when they have finished. Raises PlatformError (404)."""
        self.node.forget(self.function(name))
        self.registry.remove(name)
        del self._functions[name]
        self.controller.retire(name, None)
        self.node.forget_log(name)

    async def close(self) -> None:
        """End everything."""
        await self.controller.close()
        await self.node.close()
        self.registry.close()

    def _check_accelerator(self, selector: str) -> None:
        devices = self.controller.leases.devices.values()
        if not any(d.matches(selector) for d in devices):
            there = ", ".join(d.full_id for d in devices) or f"no accelerator at all. {self.node.device_error}".strip()
            raise PlatformError(
                "InvalidParameterValueException", f"no device matches accelerator={selector!r}; there is: {there}"
            )


def new_request_id() -> str:
    """A request id as Lambda's look."""
    return str(uuid.uuid4())
