"""Cases of losses, each with and without weights and gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.softmax import SHAPES, hard_rows
from cases.table import MANY, SIZES, Draw, Out, case

ROWS = tuple(shape for shape in SHAPES if shape[1] > 0)
FEW = ((0, 5), (1, 1), (5, 7), (33, 16), (70, 17), (3, 513))
PRESENT = tuple(itertools.product((False, True), repeat=3))  # class or positive weights, sample weights, gradient
IGNORED = -100


def one(T: np.dtype, value: float) -> np.ndarray:
    return np.array([value], T)


def labels(draw: Draw, rows: int, cols: int) -> np.ndarray:
    """Class indices, some of them ignored."""
    target = draw.index(cols, rows)
    target[::5] = IGNORED
    return target


def weighted(draw: Draw, T: np.dtype, rows: int, cols: int, present: tuple[bool, ...]) -> tuple[Any, Any, Any]:
    """Weights of columns and of rows, and the gradient, each perhaps absent."""
    column, row, gradient = present
    return (
        draw.positive(T, cols) if column else None,
        draw.positive(T, rows) if row else None,
        Out((rows, cols)) if gradient else None,
    )


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


# x and target of every element loss.
ELEMENT_LOSSES = {
    "mse": lambda draw, T, *shape: (draw.values(T, *shape), draw.values(T, *shape)),
    "l1": lambda draw, T, *shape: (draw.values(T, *shape).round(1), draw.values(T, *shape).round(1)),
    "binary_cross_entropy": lambda draw, T, *shape: (
        draw.rng.random(shape).astype(T),
        draw.rng.random(shape).astype(T),
    ),
    "sigmoid_cross_entropy": lambda draw, T, *shape: (
        draw.values(T, *shape) * T.type(4),
        draw.rng.random(shape).astype(T),
    ),
}


def element_loss_cases(name: str) -> None:
    operands = ELEMENT_LOSSES[name]
    may_weigh = name == "sigmoid_cross_entropy"

    @case(f"{name}_forward", "shapes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for rows, cols in (*SHAPES, *((n, 1) for n in SIZES)):
            x, target = operands(draw, T, rows, cols)
            yield [x, target, None, None, one(T, rows + 1), Out((rows,)), Out((rows, cols))]

    @case(f"{name}_forward", "options")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for (rows, cols), (column, row, gradient) in itertools.product((*FEW, (5, 0), (65, 1)), PRESENT):
            x, target = operands(draw, T, rows, cols)
            v, s, dx = weighted(draw, T, rows, cols, (column and may_weigh, row, gradient))
            yield [x, target, v, s, one(T, 7.5), Out((rows,)), dx]

    @case(f"{name}_forward", "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        tiny = np.finfo(T).tiny
        values = {
            "binary_cross_entropy": [0.0, 1.0, -0.0, tiny, 1e-13, 0.5, np.nan],
            "sigmoid_cross_entropy": [0.0, -0.0, 1.0, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4, tiny, np.nan],
        }.get(name, [0.0, -0.0, 1.0, -1.0, tiny, 1e4, np.inf, -np.inf, np.nan])
        targets = np.array([0.0, 1.0, 0.5, np.nan], T)
        x, target = (m.ravel() for m in np.meshgrid(np.array(values, T), targets))
        for shape in ((x.size, 1), (1, x.size), (4, x.size // 4)):
            rows, _ = shape
            yield [x.reshape(shape), target.reshape(shape), None, None, one(T, 3), Out((rows,)), Out(shape)]


for _name in ELEMENT_LOSSES:
    element_loss_cases(_name)
