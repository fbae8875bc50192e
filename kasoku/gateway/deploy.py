"""From a client's upload to a function version. Nothing of the tenant's is run or imported: files become layers."""

import asyncio
import base64
import binascii
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kasoku.gateway.archive import unpack
from kasoku.home import Home
from kasoku.node.errors import PlatformError
from kasoku.node.launch import TASK_ROOT
from kasoku.node.layers import Base, LayerSource
from kasoku.registry.model import FunctionVersion
from kasoku.sdk.errors import OptionError
from kasoku.sdk.options import FunctionOptions, check_name, parse_options
from kasoku.tenants.model import local, owner, qualify

MAX_UPLOAD = 96 << 20
"""Bytes of a deployment request: 64 MiB of zip file in base64, and room for the rest."""


@dataclass(frozen=True, slots=True)
class Code:
    """A function's files as a zip."""

    zip: bytes

    @classmethod
    def from_json(cls, value: object) -> "Code":
        """From `{"zip": BASE64}`. Raises PlatformError (400)."""
        text = value.get("zip") if isinstance(value, dict) else None
        if not isinstance(text, str):
            raise PlatformError("InvalidParameterValueException", 'code must be {"zip": BASE64}')
        return cls.from_base64(text, "code.zip")

    @classmethod
    def from_base64(cls, text: str, where: str) -> "Code":
        """From base64. Raises PlatformError (400)."""
        try:
            return cls(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise PlatformError("InvalidParameterValueException", f"{where} is not base64") from None


@dataclass(frozen=True, slots=True)
class Plan:
    """A deployment whose description has been checked."""

    name: str
    handler: str
    options: FunctionOptions


class Deployer:
    """See the module."""

    def __init__(self, layers: LayerSource, home: Home) -> None:
        self._layers = layers
        self._home = home

    def check(self, name: str, handler: object, options: object) -> Plan:
        """Raises PlatformError (400) that names what is wrong."""
        if not isinstance(options, Mapping):
            raise PlatformError("InvalidParameterValueException", "options must be an object")
        if not isinstance(handler, str) or not all(handler.rpartition(".")[::2]) or len(handler) > 256:
            raise PlatformError(
                "InvalidParameterValueException", f"handler {handler!r} is not of the form module.function"
            )
        try:
            check_name(local(name))
            return Plan(name, handler, parse_options(options))
        except OptionError as error:
            raise PlatformError("InvalidParameterValueException", str(error)) from None

    async def rebuild(self, plan: Plan, previous: FunctionVersion) -> FunctionVersion:
        """The code of an existing version under another description."""
        base = await asyncio.to_thread(self._layers.base, plan.options.image, plan.options.requirements)
        return _version(plan, base, previous.layers[-1], previous.code_sha256, previous.code_size)

    async def build(self, plan: Plan, code: Code) -> FunctionVersion:
        """Build what is missing, in a worker thread: downloads and compression must not hold up invocations."""
        return await asyncio.to_thread(self._build, plan, code)

    def _build(self, plan: Plan, code: Code) -> FunctionVersion:
        for _, volume in plan.options.volumes:
            self._layers.volume(qualify(owner(plan.name), volume))
        base = self._layers.base(plan.options.image, plan.options.requirements)
        with tempfile.TemporaryDirectory(prefix="code-", dir=self._home.run) as folder:
            unpack(code.zip, Path(folder))
            digest = self._layers.code(Path(folder), TASK_ROOT)
        sha256 = base64.b64encode(hashlib.sha256(code.zip).digest()).decode()
        return _version(plan, base, digest, sha256, len(code.zip))


def _version(plan: Plan, base: Base, code_layer: str, code_sha256: str, code_size: int) -> FunctionVersion:
    return FunctionVersion(
        name=plan.name,
        handler=plan.handler,
        options=plan.options,
        layers=(*base.layers, code_layer),
        python=base.python,
        package_paths=base.package_paths,
        image_env=base.env,
        code_sha256=code_sha256,
        code_size=code_size,
    )
