"""What a guest says of itself: kept within bounds, and believed only where it can be."""

from kasoku.node.errors import Failure
from kasoku.node.outcome import check_json


def numbers(told: dict[str, float]) -> dict[str, float]:
    """At most 64 timings that a guest reports, with names that can stand in a header."""
    good = [name for name in told if len(name) <= 64 and name.isascii() and name.isidentifier()]
    return {name: told[name] for name in good[:64]}


def phases(told: dict[str, float]) -> dict[str, float]:
    """At most 64 phases that a function reports, by names of its own."""
    return {name[:64]: value for name, value in list(told.items())[:64]}


def plausible(told: float | None, measured: float) -> float:
    """A guest's own figure, unless it claims more than was measured from outside."""
    return told if told is not None and 0 <= told <= measured else measured


def check_result(body: bytes, request_id: str) -> Failure | None:
    """What is wrong with a result, if anything."""
    try:
        check_json(body)
    except ValueError as error:
        return Failure("Runtime.InvalidResponse", f"the runner's answer is not JSON: {error}", (), request_id)
    return None
