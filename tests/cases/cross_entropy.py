"""Cases of losses of classes, each with and without weights and gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.loss import FEW, PRESENT, ROWS, one, weighted
from cases.softmax import hard_rows
from cases.table import MANY, Draw, Out, case

IGNORED = -100


def labels(draw: Draw, rows: int, cols: int) -> np.ndarray:
    """Class indices, some of them ignored."""
    target = draw.index(cols, rows)
    target[::5] = IGNORED
    return target


@case("cross_entropy_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, cols in ROWS:
        x, target = (draw.values(T, rows, cols) * 3).astype(T), draw.index(cols, rows)
        yield [x, target, None, None, one(T, rows), IGNORED, 0.0, Out((rows,)), Out((rows, cols))]


@case("cross_entropy_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, cols), present, smoothing in itertools.product(FEW, PRESENT, (0.0, 0.1, 1.0)):
        v, s, dx = weighted(draw, T, rows, cols, present)
        target = labels(draw, rows, cols)
        yield [draw.values(T, rows, cols), target, v, s, one(T, 7.5), IGNORED, smoothing, Out((rows,)), dx]
    target = draw.index(3, 20)
    for ignore in (0, 2, -1):
        yield [draw.values(T, 20, 3), target, None, None, one(T, 4), ignore, 0.0, Out((20,)), Out((20, 3))]


@case("cross_entropy_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    x = hard_rows(draw, T)
    rows, cols = x.shape
    for smoothing, column in itertools.product((0.0, 0.1), (0, 5, 18)):
        target = np.full(rows, column)
        yield [x, target, None, None, one(T, 3), IGNORED, smoothing, Out((rows,)), Out((rows, cols))]
    ignored = np.full(rows, IGNORED)
    yield [x, ignored, None, None, one(T, 0), IGNORED, 0.0, Out((rows,)), Out((rows, cols))]
    weight = draw.positive(T, rows)
    weight[:2] = np.nan, 0
    yield [draw.values(T, rows, cols), np.zeros(rows, int), None, weight, one(T, 3), IGNORED, 0.1, Out((rows,)),
           Out((rows, cols))]  # fmt: skip


@case("cross_entropy_probabilities_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, cols in ROWS:
        x, target = (draw.values(T, rows, cols) * 3).astype(T), draw.positive(T, rows, cols)
        yield [x, target, None, None, one(T, rows), 0.0, Out((rows,)), Out((rows, cols))]


@case("cross_entropy_probabilities_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, cols), present, smoothing in itertools.product(FEW, PRESENT, (0.0, 0.1, 1.0)):
        v, s, dx = weighted(draw, T, rows, cols, present)
        target = draw.positive(T, rows, cols)
        target /= target.sum(axis=1, keepdims=True)
        yield [draw.values(T, rows, cols), target, v, s, one(T, 7.5), smoothing, Out((rows,)), dx]


@case("cross_entropy_probabilities_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    x = hard_rows(draw, T)
    rows, cols = x.shape
    for smoothing in (0.0, 0.1):
        target = draw.positive(T, rows, cols)
        target[:, 2:11] = 0
        yield [x, target, None, None, one(T, 3), smoothing, Out((rows,)), Out((rows, cols))]


@case("cross_entropy_denominator", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, column, row in itertools.product((0, 1, 5, 17, 511, 512, 513, 1025, MANY), (False, True), (False, True)):
        v, s, _ = weighted(draw, T, rows, 7, (column, row, False))
        yield [labels(draw, rows, 7), v, s, IGNORED, Out((1,))]
        yield [draw.index(7, rows), v, s, 3, Out((1,))]


@case("nll_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, cols in ROWS:
        x, target = -draw.positive(T, rows, cols), draw.index(cols, rows)
        yield [x, target, None, None, one(T, rows), IGNORED, Out((rows,)), Out((rows, cols))]


@case("nll_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, cols), present in itertools.product(FEW, PRESENT):
        v, s, dx = weighted(draw, T, rows, cols, present)
        yield [draw.values(T, rows, cols), labels(draw, rows, cols), v, s, one(T, 7.5), IGNORED, Out((rows,)), dx]
    target = draw.index(3, 20)
    for ignore in (0, 2, -1):
        yield [draw.values(T, 20, 3), target, None, None, one(T, 4), ignore, Out((20,)), Out((20, 3))]


@case("nll_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    x = hard_rows(draw, T)
    rows, cols = x.shape
    weight = draw.positive(T, rows)
    weight[:2] = np.nan, 0
    for column, s in itertools.product((0, 7, 18), (None, weight)):
        yield [x, np.full(rows, column), None, s, one(T, 3), IGNORED, Out((rows,)), Out((rows, cols))]
    yield [x, np.full(rows, IGNORED), None, None, one(T, 0), IGNORED, Out((rows,)), Out((rows, cols))]
