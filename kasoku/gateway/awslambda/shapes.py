"""Between Kasoku's options and what Lambda calls a function's configuration."""

import hashlib
import json
import math
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kasoku.gateway.awslambda.request import Members, invalid
from kasoku.registry.model import LATEST, Alias, FunctionVersion, Record
from kasoku.sdk.options import FunctionOptions

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
"""The one runtime there is: this machine's Python, which the base layer is made from."""
ROLE = "arn:aws:iam::000000000000:role/kasoku"
_PREFIX = "KASOKU_"
_LISTS = ("requirements", "secrets")
_OWN = ("memory", "timeout", "env")
"""Options that Lambda has members of its own for; the others ride in the environment."""
LAMBDA_DEFAULTS = {"memory": 128, "timeout": 3.0}


def parse_configuration(members: Members, before: FunctionOptions | None) -> dict[str, Any]:
    """Options from Lambda's members; what is not said stays as it was before. Raises PlatformError (400)."""
    options = before.to_json() if before else dict(LAMBDA_DEFAULTS)
    runtime = members.take("Runtime", str)
    if runtime not in (None, RUNTIME):
        raise invalid(f"Runtime {runtime[:40]!r} is not available; this machine has {RUNTIME}")
    if members.take("PackageType", str, "Zip") != "Zip":
        raise invalid("PackageType must be Zip; images are built with `kasoku image`")
    if (memory := members.number("MemorySize", 64, 1 << 20)) is not None:
        options["memory"] = memory
    if (timeout := members.number("Timeout", 1, 86400)) is not None:
        options["timeout"] = timeout
    architectures = members.take("Architectures", list, ["x86_64"])
    if architectures != ["x86_64"]:
        raise invalid("Architectures must be ['x86_64']")
    if (environment := members.object("Environment")) is not None:
        variables = environment.take("Variables", dict, {})
        environment.done()
        kept = {key: options[key] for key in ("memory", "timeout") if key in options}
        options = {**kept, **_from_variables(variables)}
    return options


def _from_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"env": {}}
    for name, value in variables.items():
        if not name.startswith(_PREFIX):
            options["env"][name] = value
            continue
        option = name.removeprefix(_PREFIX).lower()
        if option in _OWN or option not in FunctionOptions._fields or name != name.upper():
            known = ", ".join(sorted(_PREFIX + f.upper() for f in FunctionOptions._fields if f not in _OWN))
            raise invalid(f"Environment.Variables.{name[:80]} is unknown; names with {_PREFIX} are {known}")
        options[option] = _option(option, value)
    return options


def _option(option: str, text: object) -> Any:
    if not isinstance(text, str):
        raise invalid(f"Environment.Variables.{_PREFIX}{option.upper()} must be a string")
    if option in _LISTS:
        return text.split()
    if isinstance(FunctionOptions._field_defaults[option], int | float):
        try:
            return json.loads(text)
        except ValueError:
            raise invalid(f"Environment.Variables.{_PREFIX}{option.upper()} must be a number, not {text!r}") from None
    return text


def to_variables(options: FunctionOptions) -> dict[str, str]:
    """The environment that `parse_configuration` makes the same options of."""
    variables = dict(options.env)
    for option, default in FunctionOptions._field_defaults.items():
        value = getattr(options, option)
        if option not in _OWN and value != default:
            variables[_PREFIX + option.upper()] = " ".join(value) if option in _LISTS else str(value)
    return variables


def configuration(record: Record, function: FunctionVersion, label: str, at: float, description: str) -> dict[str, Any]:
    """FunctionConfiguration."""
    options = function.options
    shape: dict[str, Any] = {
        "FunctionName": record.latest.local_name,
        "FunctionArn": record.latest.arn if label == LATEST else f"{record.latest.arn}:{label}",
        "Runtime": RUNTIME,
        "Role": ROLE,
        "Handler": function.handler,
        "CodeSize": function.code_size,
        "CodeSha256": function.code_sha256,
        "Description": description,
        "Timeout": math.ceil(options.timeout),
        "MemorySize": options.memory,
        "LastModified": timestamp(at),
        "Version": label,
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": revision(function, description),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
    }
    if variables := to_variables(options):
        shape["Environment"] = {"Variables": variables}
    return shape


def latest(record: Record) -> dict[str, Any]:
    """The configuration of `$LATEST`."""
    return configuration(record, record.latest, LATEST, record.deployed_at, record.description)


def numbered(record: Record, number: int) -> dict[str, Any]:
    """The configuration of a published version."""
    published = record.published[number]
    return configuration(record, published.function, str(number), published.published_at, published.description)


def alias_shape(record: Record, alias: Alias) -> dict[str, Any]:
    """AliasConfiguration."""
    shape: dict[str, Any] = {
        "AliasArn": f"{record.latest.arn}:{alias.alias}",
        "Name": alias.alias,
        "FunctionVersion": alias.target,
        "Description": alias.description,
        "RevisionId": alias.revision,
    }
    if alias.weights:
        shape["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.weights)}
    return shape


def revision(function: FunctionVersion, description: str) -> str:
    """Changes with whatever an update can change."""
    digest = hashlib.sha256(f"{function.version} {description}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16]))


def timestamp(at: float) -> str:
    """As Lambda writes times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
