"""Interleaved measurements and what can be said of them.

Two variants are never measured one after the other: a machine's speed drifts. Each round measures every variant once,
in an order that turns from round to round, and a ratio is taken within each round. What is reported is the median of
the rounds with an interval that contains the true median with 95 % confidence whatever the distribution is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Median:
    """A median and the interval that it is in with 95 % confidence (all values, where there are fewer than 6)."""

    value: float
    low: float
    high: float


def interleave(variants: Mapping[str, Callable[[], float]], rounds: int, *, warmup: int = 1) -> dict[str, list[float]]:
    """Calls every variant once a round and returns what each returned, by round; warm-up rounds are thrown away."""
    names = list(variants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            value = variants[name]()
            if number >= 0:
                samples[name].append(value)
    return samples


def median(values: Sequence[float]) -> Median:
    """Returns the median; its interval comes from the order statistics (sign test)."""
    ordered = sorted(values)
    count = len(ordered)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    # The largest k such that fewer than k of the values lie below the true median with at most 2.5 % probability.
    tail, k = 0.0, 0
    while k < count // 2:
        tail += math.comb(count, k) / 2**count
        if tail > (1 - CONFIDENCE) / 2:
            break
        k += 1
    first = max(k - 1, 0)
    return Median(middle, ordered[first], ordered[count - 1 - first])


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Median:
    """Returns the median of the ratios within rounds."""
    return median([a / b for a, b in zip(numerators, denominators, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
