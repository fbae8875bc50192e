"""Random sequences of system calls have the same results and errors in a guest as on this machine.

`--sequences N` runs more; Hypothesis keeps failing ones in `.hypothesis` and tries them first the next time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from .sequences import SEQUENCES
from .sides import Sequence, Side


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    machine, guest = Side(guest=False), Side(guest=True)
    yield machine, guest
    machine.stop()
    guest.stop()


def test_a_guest_answers_as_the_machine_does(sides: tuple[Side, Side], pytestconfig: pytest.Config) -> None:
    machine, guest = sides

    @settings(
        max_examples=pytestconfig.getoption("--sequences"),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(SEQUENCES)
    def compare(sequence: Sequence) -> None:
        expected, found = machine.run(sequence), guest.run(sequence)
        if expected != found:
            note(json.dumps(sequence))
            for number, step in enumerate(sequence):
                if isinstance(expected, str) or isinstance(found, str):
                    break
                note(f"{number} {step}: {expected[number]}" + _difference(expected[number], found[number]))
        assert found == expected

    compare()


def _difference(expected: object, found: object) -> str:
    return "" if expected == found else f"  IN THE GUEST {found}"
