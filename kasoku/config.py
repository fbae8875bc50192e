"""Configuration of the server: defaults, then a file, then the environment; what the command line says comes last.

The file is `config.toml` of the state directory, or what `$KASOKU_CONFIG` names. Each setting has one variable,
`KASOKU_` and its name in capitals. A key that nobody knows, or a value out of range, is refused at start.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kasoku.home import Home
from kasoku.sdk.errors import KasokuError

CONFIG_VARIABLE = "KASOKU_CONFIG"
PREFIX = "KASOKU_"


class ConfigError(KasokuError):
    """A setting is wrong: the message names the key, its value, where it was said, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings. Lists are written as such in the file, and with commas between their parts in a variable."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    allow_hosts: tuple[str, ...] = ()
    """Further names under which clients may call the gateway."""
    memory_mib: int = 0
    """MiB for all instances together; 0: 85 % of the machine's."""
    require_keys: bool = False
    """Ask for keys on the loopback interface too, from the start."""
    region: str = ""
    """The region that signatures must name; empty: any."""
    drain_seconds: float = 5.0
    """How long running requests and calls may take to finish after SIGTERM."""
    keep_results_hours: float = 24.0
    """How long the result of an asynchronous call can be asked for."""
    max_async_running: int = 128
    """Asynchronous calls that run at a time."""
    blob_mib: int = 4096
    """MiB of blobs (data that payloads are too small for) that each tenant may keep, and the operator."""
    keep_blobs_hours: float = 24.0
    """How long a blob is kept that nobody uses."""
    log_format: str = "text"
    """Logs: `text` (functions' with Lambda's marks), or `json`, an object for each line with the request's id."""
    otlp_endpoint: str = ""
    """Base URL of an OpenTelemetry collector that traces are posted to; empty: none."""
    device_hour_price: float = 1.0
    """What an hour of a rented device costs, for the comparison of `kasoku usage`; any currency."""


@dataclass(frozen=True, slots=True)
class _Rule:
    parse: Callable[[str], Any]
    """From a variable's text."""
    allowed: str
    check: Callable[[Any], bool]


def _flag(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]


def _number(low: float, high: float, unit: str, *, whole: bool = False) -> _Rule:
    def check(value: Any) -> bool:
        right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        return right and low <= value <= high

    kind = "a whole number" if whole else "a number"
    return _Rule(int if whole else float, f"{kind} of {unit} between {low:g} and {high:g}", check)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_TEXT = _Rule(str, "a string", lambda value: isinstance(value, str) and value.isprintable())
_FLAG = _Rule(_flag, "true or false", lambda value: isinstance(value, bool))
_RULES: dict[str, _Rule] = {
    "host": _TEXT,
    "port": _number(0, 65535, "a port", whole=True),
    "allow_hosts": _Rule(
        _names,
        "a list of host names",
        lambda value: isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value),
    ),
    "memory_mib": _number(0, 1 << 24, "MiB", whole=True),
    "require_keys": _FLAG,
    "region": _TEXT,
    "drain_seconds": _number(0, 3600, "seconds"),
    "keep_results_hours": _number(0.01, 24 * 365, "hours"),
    "max_async_running": _number(1, 10_000, "calls", whole=True),
    "blob_mib": _number(1, 1 << 24, "MiB", whole=True),
    "keep_blobs_hours": _number(0.01, 24 * 365, "hours"),
    "log_format": _Rule(str, "'text' or 'json'", lambda value: value in ("text", "json")),
    "otlp_endpoint": _Rule(
        str,
        "an http:// or https:// URL, or empty",
        lambda value: isinstance(value, str) and (not value or value.startswith(("http://", "https://"))),
    ),
    "device_hour_price": _number(0, 1e6, "money"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration, and where each setting that is no default was said."""

    config: Config
    sources: dict[str, str]


def load(home: Home, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read the file and the environment. Raises ConfigError."""
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    named = variables.get(CONFIG_VARIABLE)
    path = Path(named) if named else home.path / "config.toml"
    for key, value in _read(path, must_exist=bool(named)).items():
        if key not in _RULES:
            raise ConfigError(f"{path}: {key!r} is unknown; known are {', '.join(_RULES)}")
        values[key], sources[key] = _checked(key, value, str(path)), str(path)
    for key, rule in _RULES.items():
        variable = PREFIX + key.upper()
        if variable in variables:
            text = variables[variable]
            try:
                value = rule.parse(text)
            except (ValueError, KeyError):
                raise ConfigError(f"{variable}: {text!r} is not {rule.allowed}") from None
            values[key], sources[key] = _checked(key, value, variable), variable
    return Loaded(Config(**values), sources)


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"${CONFIG_VARIABLE} names {path}, which does not exist") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def _checked(key: str, value: Any, where: str) -> Any:
    rule = _RULES[key]
    if not rule.check(value):
        raise ConfigError(f"{where}: {key} = {value!r} is not {rule.allowed}")
    return tuple(value) if isinstance(value, list) else value


def describe() -> list[tuple[str, Any, str]]:
    """Every setting with its default and what is allowed."""
    return [(field.name, field.default, _RULES[field.name].allowed) for field in fields(Config)]
