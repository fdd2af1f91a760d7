"""Cases of random numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.table import MANY, SIZES, Draw, Out, case

STATES = tuple(np.array(s) for s in ((0, 0), (123456789012345, 7), (-1, 2**40 + 3), (-(2**63), -1)))
COUNTS = (*SIZES, 63, 64, 65, 128, 129, MANY)


def random_cases(kernel: str, parameters: tuple[tuple[Any, ...], ...]) -> None:
    @case(kernel, "states")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for state, numbers in itertools.product(STATES, parameters):
            yield [state, *numbers, Out((257,))]

    @case(kernel, "sizes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for n in COUNTS:
            yield [STATES[1], *parameters[0], Out((n,))]


random_cases("uniform", ((0.0, 1.0), (-0.1, 0.7), (5.0, 5.0)))
random_cases("normal", ((0.0, 1.0), (3.0, 0.25), (-1.0, 0.0)))
random_cases("dropout_mask", ((0.3,), (0.0,), (0.5,), (1.0,), (1e-12,)))
random_cases("randint", ((0, 10), (0, 1), (-5, 17), (0, 2**62), (-(2**63), 2**63 - 1)))
random_cases("permutation", ((),))


@case("uniform", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in ((), (3, 5), (2, 0), (2, 3, 4)):
        yield [STATES[1], -1.0, 1.0, Out(shape)]


@case("rng_advance", "states")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for state in (*STATES, np.array([5, 2**63 - 1])):
        yield [state.copy()]
