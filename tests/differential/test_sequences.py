"""Random sequences of system calls have the same results and errors in a guest as on this machine.

The usual number of sequences is always the same ones, so that a change is not blamed for what it did not do; with
`--sequences N` they are new ones each time, and Hypothesis keeps those that fail in `.hypothesis` and tries them first
the next time. What once failed stays in `kept.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from .sequences import SEQUENCES
from .sides import Sequence, Side

USUAL = 500
KEPT = [json.loads(line) for line in Path(__file__).with_name("kept.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    machine, guest = Side(guest=False), Side(guest=True)
    yield machine, guest
    machine.stop()
    guest.stop()


@pytest.mark.parametrize("sequence", KEPT, ids=range(len(KEPT)))
def test_what_once_differed(sides: tuple[Side, Side], sequence: Sequence) -> None:
    machine, guest = sides
    assert guest.run(sequence) == machine.run(sequence)


def test_a_guest_answers_as_the_machine_does(sides: tuple[Side, Side], pytestconfig: pytest.Config) -> None:
    machine, guest = sides

    wanted = pytestconfig.getoption("--sequences")

    @settings(
        settings.get_profile("default"),
        max_examples=wanted or USUAL,
        derandomize=wanted is None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
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
