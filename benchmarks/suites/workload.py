"""What a kernel of a suite is: its data, what is done with them on the device, and what NumPy makes of the same data.

Written from the definitions in the papers on PolyBench (Grauer-Gray et al. 2012) and Rodinia (Che et al. 2009); no code
of either is in here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class Launch:
    """A kernel over `size`; arguments are names of arrays or numbers of NumPy's types."""

    kernel: str
    size: tuple[int, ...]
    arguments: tuple[str | np.generic, ...]
    group: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Read:
    """The host looks at an array; the generator is sent its contents."""

    name: str


@dataclass(frozen=True)
class Write:
    """The host replaces an array's contents."""

    name: str
    value: Array


Steps: TypeAlias = Generator[Launch | Read | Write, Array, None]


@dataclass(frozen=True)
class Workload:
    """One kernel of a suite. `size` is a multiple of `granule`; its time grows about with the `power` of it."""

    name: str
    source: str
    power: float
    data: Callable[[int, np.random.Generator], Arrays]
    steps: Callable[[int, Arrays], Steps]
    #: Arrays that are read at the end, and compared with the reference.
    results: tuple[str, ...]
    reference: Callable[[int, Arrays], Arrays]
    granule: int = 16
    tolerance: float = 1e-3


def uniform(random: np.random.Generator, *shape: int) -> Array:
    """Numbers from 0 to 1, as the devices compute."""
    return random.random(shape, np.float32)


def zeros(*shape: int) -> Array:
    """Zeros of the same type."""
    return np.zeros(shape, np.float32)


def number(value: int) -> np.int32:
    """An `int` argument."""
    return np.int32(value)


def real(value: float) -> np.float32:
    """A `float` argument."""
    return np.float32(value)
