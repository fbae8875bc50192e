"""Calling a declared function here, and how its event becomes arguments."""

from typing import Any

import pytest

import kasoku
from kasoku.sdk import phases


def test_event_becomes_keyword_arguments() -> None:
    app = kasoku.App("calls")

    @app.function(memory=128)
    def add(a: int, b: int = 2) -> int:
        return a + b

    assert add(1) == add.local(1, b=2) == add.__kasoku_invoke__({"a": 1}, None) == 3
    assert add._event((1,), {"b": 5}) == {"a": 1, "b": 5}
    assert add.name == "calls-add"
    with pytest.raises(TypeError, match="JSON object"):
        add.__kasoku_invoke__([1], None)
    with pytest.raises(TypeError, match="missing"):
        add._event((), {})


def test_lambda_shape_takes_the_event_as_it_is() -> None:
    app = kasoku.App("calls")

    @app.function
    def handler(event: Any, context: Any) -> Any:
        return [event, context]

    assert handler.__kasoku_invoke__([1], "context") == [[1], "context"]
    assert handler._event(([1],), {}) == [1]


def test_keyword_rest_is_flat() -> None:
    app = kasoku.App("calls")

    @app.function
    def rest(a: int, **others: int) -> dict[str, int]:
        return others

    assert rest._event((1,), {"x": 2}) == {"a": 1, "x": 2}


def test_phases_add_up_and_are_bounded() -> None:
    phases.drain()
    kasoku.record_phase("x", 1)
    kasoku.record_phase("x", 2)
    with kasoku.phase("y"):
        pass
    for number in range(100):
        kasoku.record_phase(str(number), 1)
    drained = phases.drain()
    assert drained["x"] == 3 and drained["y"] >= 0 and len(drained) == phases.MAX_PHASES
    assert phases.drain() == {}
