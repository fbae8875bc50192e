"""A function's options: declared here once, for the decorator, `kasoku deploy` and the gateway alike.

A NamedTuple instead of a dataclass: `dataclasses` imports `inspect`, milliseconds that every cold start would pay.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kasoku.sdk.errors import OptionError

_ACCELERATOR = re.compile(r"[a-z][a-z0-9]*(:[a-z0-9][a-z0-9_.-]*){0,2}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VOLUME = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
APIS = ("opencl",)
LEASE_MODES = ("wait", "refuse")
ISOLATIONS = ("instance", "invocation")
KINDS = ("cpu", "gpu", "accelerator")
MAX_ENV_BYTES = 32 * 1024
MAX_WARMUP_BYTES = 48 * 1024


class FunctionOptions(NamedTuple):
    """How a function is run. Build it with `parse_options`, which checks every value."""

    image: str | None = None
    """Name of an image of the store that the function starts from; None: the machine's own Python."""
    requirements: tuple[str, ...] = ()
    """Requirement specifiers as in a requirements.txt; wheels only."""
    accelerator: str | None = None
    """`opencl`, `opencl:VENDOR`, `opencl:KIND` (cpu, gpu, accelerator) or `opencl:VENDOR:NUMBER`."""
    present: str | None = None
    """What the function is told that the accelerator is: cpu, gpu or accelerator; None: the truth."""
    recover: bool = False
    """Whether the accelerator's session outlives a crash of what serves it; buffers are then apart from the arena."""
    arena: int = 256
    """MiB of memory shared with the accelerator's broker."""
    memory: int = 512
    """MiB of memory of the VM."""
    vcpus: int = 1
    """Processors of the VM."""
    timeout: float = 30.0
    """Seconds that one invocation may take."""
    init_timeout: float = 60.0
    """Seconds that start and imports may take."""
    lease: str = "wait"
    """What to do while the accelerator is another's: `wait` in line, or `refuse` the invocation at once."""
    lease_timeout: float = 300.0
    """Seconds that an invocation waits in line, for an accelerator or an instance, before it is refused."""
    priority: int = 0
    """Higher goes first in line for a device, from -100 to 100; at equal priority, functions that used devices less."""
    concurrency: int = 1
    """Invocations that a VM serves at a time, each in a thread of its own; coroutines of all of them share a loop."""
    max_instances: int = 20
    """Most VMs of this function at a time."""
    min_instances: int = 0
    """VMs that are kept running, work or not."""
    buffer_instances: int = 0
    """VMs that are kept running beyond those that work, while any does."""
    idle_timeout: float = 60.0
    """Seconds that an idle instance is kept."""
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables of the function."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Place in the guest and name of each volume, which appears there read-only."""
    isolation: str = "instance"
    """What an invocation finds of those before it: what they left in their `instance`, or nothing (`invocation`)."""
    secrets: tuple[str, ...] = ()
    """Names of secrets (`kasoku secret set`) that become environment variables of the function."""
    warmup: str | None = None
    """JSON of an event that the function is called with before its snapshot is taken, so that what it does for the
    first time is done by then; the result is dropped. None: no such event."""

    def to_json(self) -> dict[str, Any]:
        """A mapping that `parse_options` accepts."""
        lists = {"requirements": list(self.requirements), "secrets": list(self.secrets)}
        warmup = None if self.warmup is None else json.loads(self.warmup)
        return {**self._asdict(), **lists, "env": dict(self.env), "volumes": dict(self.volumes), "warmup": warmup}


_CHOICES = {"lease": LEASE_MODES, "isolation": ISOLATIONS, "present": KINDS}
_RANGES: dict[str, tuple[float, float, str]] = {
    "arena": (16, 16384, "MiB"),
    "memory": (64, 1 << 20, "MiB"),
    "vcpus": (1, 8, "processors"),
    "timeout": (0.1, 24 * 3600, "seconds"),
    "init_timeout": (0.1, 3600, "seconds"),
    "lease_timeout": (0, 24 * 3600, "seconds"),
    "priority": (-100, 100, "steps"),
    "concurrency": (1, 1000, "invocations"),
    "max_instances": (1, 10000, "instances"),
    "min_instances": (0, 10000, "instances"),
    "buffer_instances": (0, 10000, "instances"),
    "idle_timeout": (0, 24 * 3600, "seconds"),
}


def check_name(name: object) -> str:
    """A function's name, checked: 1 to 64 letters, digits, `-` and `_`, as Lambda has it. Raises OptionError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError("name", f"{name!r} is not 1 to 64 of letters, digits, '-' and '_'")
    return name


def parse_options(raw: Mapping[str, Any]) -> FunctionOptions:
    """Options from untyped values; None means the default. Raises OptionError: which option, what is allowed."""
    values: dict[str, Any] = {}
    for option, value in raw.items():
        if option not in FunctionOptions._fields:
            raise OptionError(option, f"unknown; known are {', '.join(FunctionOptions._fields)}")
        if value is not None:
            values[option] = _checked(option, value)
    options = FunctionOptions(**values)
    if options.min_instances > options.max_instances:
        reason = f"{options.min_instances} is more than max_instances, {options.max_instances}"
        raise OptionError("min_instances", reason)
    if options.isolation == "invocation" and options.concurrency > 1:
        raise OptionError("concurrency", "an instance that is put back after each invocation serves one at a time")
    return options


def _checked(option: str, value: Any) -> Any:
    if option in _RANGES:
        return _number(option, value)
    if option == "image":
        return _matching(option, value, _IMAGE, "an image's name")
    if option == "accelerator":
        _matching(option, value, _ACCELERATOR, "of the form 'opencl', 'opencl:gpu' or 'opencl:intel:0'")
        if value.split(":")[0] not in APIS:
            raise OptionError(option, f"{value!r} asks for an unknown API; known are {', '.join(APIS)}")
        return value
    if option == "recover":
        if not isinstance(value, bool):
            raise OptionError(option, f"{value!r} is not True or False")
        return value
    if option in _CHOICES:
        if value not in _CHOICES[option]:
            raise OptionError(option, f"{value!r} is not one of {', '.join(_CHOICES[option])}")
        return value
    if option == "requirements":
        return _requirements(value)
    if option == "volumes":
        return _volumes(value)
    if option == "secrets":
        return _secrets(value)
    if option == "warmup":
        return _event(value)
    return _environment(value)


def _number(option: str, value: Any) -> int | float:
    low, high, unit = _RANGES[option]
    whole = isinstance(FunctionOptions._field_defaults[option], int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise OptionError(option, f"{value!r} is not a {'whole ' if whole else ''}number of {unit}")
    if not low <= value <= high:
        raise OptionError(option, f"{value!r} is not between {low:g} and {high:g} {unit}")
    return int(value) if whole else float(value)


def _matching(option: str, value: Any, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise OptionError(option, f"{value!r} is not {what}")
    return value


def _requirements(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise OptionError("requirements", f"{value!r} is not a list of requirement strings")
    for line in value:
        # A leading dash would be read as an option by the installer.
        if (
            not isinstance(line, str)
            or not line.strip()
            or line.lstrip().startswith("-")
            or "\n" in line
            or "\0" in line
        ):
            raise OptionError("requirements", f"{line!r} is not a requirement such as 'numpy>=2'")
    return tuple(line.strip() for line in value)


def _volumes(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise OptionError("volumes", f"{value!r} is not a mapping of places to names of volumes")
    places = set()
    for place, name in value.items():
        parts = place[1:].rstrip("/").split("/") if isinstance(place, str) and place.startswith("/") else [""]
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise OptionError("volumes", f"{place!r} is not an absolute path below / without '.' and '..'")
        if place.rstrip("/") in places:
            raise OptionError("volumes", f"{place!r} is named twice")
        places.add(place.rstrip("/"))
        _matching("volumes", name, _VOLUME, "the name of a volume")
    return tuple(sorted(value.items()))


def _secrets(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise OptionError("secrets", f"{value!r} is not a list of names of secrets")
    return tuple(sorted({check_variable("secrets", name) for name in value}))


def check_variable(option: str, name: object) -> str:
    """An environment variable's name, checked. Raises OptionError."""
    if not isinstance(name, str) or len(name) > 128 or not _ENV_NAME.fullmatch(name):
        raise OptionError(option, f"{name!r} is not a variable's name")
    return name


def _event(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise OptionError("warmup", f"{value!r} is not an event, as JSON carries it") from None
    if len(text) > MAX_WARMUP_BYTES:
        raise OptionError("warmup", f"the event is longer than {MAX_WARMUP_BYTES} bytes of JSON")
    return text


def _environment(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise OptionError("env", f"{value!r} is not a mapping of names to strings")
    for name, text in value.items():
        check_variable("env", name)
        if not isinstance(text, str) or "\0" in text:
            raise OptionError("env", f"the value of {name} is not a string without NUL")
    if sum(len(name) + len(text.encode()) + 2 for name, text in value.items()) > MAX_ENV_BYTES:
        raise OptionError("env", f"holds more than {MAX_ENV_BYTES} bytes")
    return tuple(sorted(value.items()))
