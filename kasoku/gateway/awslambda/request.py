"""Reading what Lambda's clients send: JSON objects with known members, each of its type."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from kasoku.gateway.body import ClientGone, read_body
from kasoku.node.errors import PlatformError

MAX_BODY = 96 << 20
MAX_ITEMS = 10_000
IGNORED = frozenset({"Tags", "TracingConfig", "Role", "Publish", "DryRun", "RevisionId", "SnapStart", "LoggingConfig"})
"""Members that are accepted and mean nothing here, or that a route reads itself."""

_NAMES: dict[type, str] = {
    object: "a value",
    list: "a list",
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
    float: "a number",
}


def invalid(message: str) -> PlatformError:
    """400, as Lambda words a parameter that it does not take."""
    return PlatformError("InvalidParameterValueException", message)


class Members:
    """The members of a JSON object. What nobody asked for by `done` is refused: nothing is ignored silently."""

    def __init__(self, value: Mapping[str, Any], where: str = "") -> None:
        self._value = dict(value)
        self._where = where
        self._known: set[str] = set()

    def take(self, name: str, kind: type, default: Any = None) -> Any:
        """A member of a type. Raises PlatformError (400)."""
        self._known.add(name)
        value = self._value.get(name)
        if value is None:
            return default
        wrong = isinstance(value, bool) and kind not in (bool, object)
        if wrong or not isinstance(value, (int, float) if kind is float else kind):
            raise invalid(f"{self._where}{name} must be {_NAMES[kind]}")
        return value

    def required(self, name: str, kind: type) -> Any:
        """As `take`, for one that must be there."""
        value = self.take(name, kind)
        if value is None:
            raise invalid(f"{self._where}{name} is missing")
        return value

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds."""
        value: int | None = self.take(name, int)
        if value is not None and not low <= value <= high:
            raise invalid(f"{self._where}{name} must be between {low} and {high}, not {value}")
        return value

    def object(self, name: str) -> "Members | None":
        """A member that is an object itself."""
        value = self.take(name, dict)
        return None if value is None else Members(value, f"{self._where}{name}.")

    def done(self, ignored: frozenset[str] = frozenset()) -> None:
        """Raise PlatformError (400) if there is more."""
        unknown = sorted(key for key, value in self._value.items() if value is not None and key not in self._known)
        unknown = [key for key in unknown if key not in ignored]
        if unknown:
            raise invalid(f"{self._where}{unknown[0][:100]} is not supported")


async def read_object(request: Request, what: str) -> Members:
    """The body as an object; an empty one is `{}`. Raises PlatformError (400, 413)."""
    try:
        body = await read_body(request.scope, request.receive, MAX_BODY, what)
    except ClientGone:
        raise PlatformError("InvalidRequestContentException", "the client went away") from None
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise PlatformError(
            "InvalidRequestContentException", f"Could not parse request body into json: {error}"
        ) from None
    if not isinstance(value, dict):
        raise PlatformError("InvalidRequestContentException", "the request must be a JSON object")
    return Members(value)


def page(request: Request, items: list[Any]) -> tuple[list[Any], str | None]:
    """The part of a list that `Marker` and `MaxItems` ask for, and the next marker."""
    query = request.query_params
    try:
        start = int(query.get("Marker") or 0)
        count = int(query.get("MaxItems") or 50)
    except ValueError:
        raise invalid("Marker and MaxItems must be whole numbers") from None
    if start < 0 or not 1 <= count <= MAX_ITEMS:
        raise invalid(f"MaxItems must be between 1 and {MAX_ITEMS}, and Marker what an answer gave")
    end = start + count
    return items[start:end], str(end) if end < len(items) else None
