"""Cases of layer norm, RMS norm and batch norm, with every set of optional operands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.softmax import SHAPES
from cases.table import Draw, Out, case
from fastbp.kernels import reference

EPSILON = 1e-5
FEW = ((0, 5), (1, 1), (5, 7), (33, 16), (70, 17), (3, 513), (513, 3))
# Those of the rows kernels, and columns of more than 512 · 512 rows, whose runs are added in another way.
COLUMN_SHAPES = (*SHAPES, (513, 33), (1025, 70), (2, 1030), (1537, 17))
MANY_ROWS = 512 * 512 + 700


def hard(draw: Draw, T: np.dtype) -> np.ndarray:
    """Rows, and columns when transposed, that are constant, far from 0, tiny, infinite or not a number."""
    x = draw.values(T, 12, 19)
    x[0] = 0
    x[1] = 3
    x[2] += 1000
    x[3] *= T.type(1e6)
    x[4] *= T.type(1e-6)
    x[5] = np.finfo(T).tiny
    x[6, 4] = np.nan
    x[7, 18] = np.inf
    x[8, 0], x[8, 1] = np.inf, -np.inf
    x[9] = -0.0
    x[10, :] = -1e9
    x[11, 3:] = 0
    return x


def beside(draw: Draw, T: np.dtype, rows: int, cols: int) -> np.ndarray:
    """Rows far from 0: small deviations about ever larger means, and constants that no sum is exact for."""
    x = draw.values(T, rows, cols)
    x += (10.0 ** (np.arange(rows) % 9) * (-1.0) ** np.arange(rows)).astype(T)[:, None]
    x[1::3] = (10.0 ** (np.arange(rows) % 9)[1::3] + 1 / 3).astype(T)[:, None]
    return x


def affine(draw: Draw, T: np.dtype, cols: int, w: bool = True, b: bool = True) -> tuple[Any, Any]:
    return draw.values(T, cols) if w else None, draw.values(T, cols) if b else None


# ---------------------------------------------------------------- rows


def row_forward(
    draw: Draw, T: np.dtype, x: np.ndarray, centered: bool = True, w: bool = True, b: bool = True, eps: float = EPSILON
) -> list[Any]:
    rows, cols = x.shape
    mean = Out((rows,)) if centered else None
    return [x, *affine(draw, T, cols, w, b), eps, mean, Out((rows,)), Out((rows, cols))]


def row_statistics(x: np.ndarray, centered: bool) -> tuple[np.ndarray | None, np.ndarray]:
    """mean and rstd, as the forward kernel leaves them."""
    rows = x.shape[0]
    mean, rstd = np.empty(rows, x.dtype) if centered else None, np.empty(rows, x.dtype)
    reference.row_norm_forward(x, None, None, EPSILON, mean, rstd, np.empty_like(x))
    return mean, rstd


def row_backward_input(draw: Draw, T: np.dtype, x: np.ndarray, centered: bool = True, w: bool = True) -> list[Any]:
    weight, _ = affine(draw, T, x.shape[1], w)
    return [draw.values(T, *x.shape), x, weight, *row_statistics(x, centered), Out(x.shape)]


def row_backward_weight(
    draw: Draw, T: np.dtype, x: np.ndarray, centered: bool = True, b: bool = True, accumulate: bool = False
) -> list[Any]:
    cols = x.shape[1]
    dw, db = affine(draw, T, cols) if accumulate else (Out((cols,)), Out((cols,)))
    return [draw.values(T, *x.shape), x, *row_statistics(x, centered), accumulate, dw, db if b else None]


@case("row_norm_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in SHAPES:
        yield row_forward(draw, T, draw.values(T, *shape))


@case("row_norm_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, (centered, w, b) in itertools.product(FEW, itertools.product((False, True), repeat=3)):
        for eps in (EPSILON, 0.5):
            yield row_forward(draw, T, draw.values(T, *shape), centered, w, b, eps)


@case("row_norm_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for centered in (False, True):
        yield row_forward(draw, T, hard(draw, T), centered)
        for cols in (7, 100, 1030):
            yield row_forward(draw, T, beside(draw, T, 18, cols), centered)
        values = row_forward(draw, T, draw.values(T, 5, 7), centered)
        values[1][3], values[2][4] = np.nan, np.inf
        yield values


@case("row_norm_backward_input", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in SHAPES:
        yield row_backward_input(draw, T, draw.values(T, *shape))


@case("row_norm_backward_input", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, (centered, w) in itertools.product(FEW, itertools.product((False, True), repeat=2)):
        yield row_backward_input(draw, T, draw.values(T, *shape), centered, w)


@case("row_norm_backward_input", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for centered in (False, True):
        yield row_backward_input(draw, T, hard(draw, T), centered)
        yield row_backward_input(draw, T, beside(draw, T, 18, 100), centered)
        values = row_backward_input(draw, T, draw.values(T, 5, 19), centered)
        values[0][0, 3], values[0][1, 4], values[0][2], values[0][3] = np.nan, np.inf, 0.0, -0.0
        yield values


@case("row_norm_backward_weight", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in COLUMN_SHAPES:
        yield row_backward_weight(draw, T, draw.values(T, *shape))


@case("row_norm_backward_weight", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, options in itertools.product(FEW, itertools.product((False, True), repeat=3)):
        yield row_backward_weight(draw, T, draw.values(T, *shape), *options)
    yield row_backward_weight(draw, T, draw.values(T, 1025, 70), accumulate=True)
    yield row_backward_weight(draw, T, draw.values(T, 3, 1030), accumulate=True)


@case("row_norm_backward_weight", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for centered in (False, True):
        yield row_backward_weight(draw, T, hard(draw, T)[:6].copy(), centered)
        for x in (hard(draw, T), np.ascontiguousarray(hard(draw, T).T)):
            yield row_backward_weight(draw, T, x, centered)


# ---------------------------------------------------------------- columns


def batch_forward(
    draw: Draw,
    T: np.dtype,
    x: np.ndarray,
    w: bool = True,
    b: bool = True,
    running: bool = True,
    batches: int | None = None,
    momentum: float = 0.1,
    eps: float = EPSILON,
) -> list[Any]:
    rows, cols = x.shape
    count = None if batches is None else np.array(batches)
    tracked = (draw.values(T, cols), draw.positive(T, cols)) if running else (None, None)
    return [
        x, *affine(draw, T, cols, w, b), count, eps, momentum, *tracked, Out((rows, cols)), Out((cols,)), Out((cols,)),
    ]  # fmt: skip


def batch_backward(draw: Draw, T: np.dtype, x: np.ndarray, w: bool = True, dx: bool = True) -> list[Any]:
    cols = x.shape[1]
    mean, rstd = np.empty(cols, T), np.empty(cols, T)
    reference.batch_norm_forward(x, None, None, None, EPSILON, 0.1, None, None, np.empty_like(x), mean, rstd)
    weight, _ = affine(draw, T, cols, w)
    out = Out(x.shape) if dx else None
    return [draw.values(T, *x.shape), x, weight, mean, rstd, out, Out((cols,)), Out((cols,))]


@case("batch_norm_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in COLUMN_SHAPES:
        yield batch_forward(draw, T, draw.values(T, *shape))


@case("batch_norm_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, (w, b, running) in itertools.product(FEW, itertools.product((False, True), repeat=3)):
        for batches, momentum in ((None, 0.1), (None, 1.0), (1, 0.0), (3, 0.0)):
            yield batch_forward(draw, T, draw.values(T, *shape), w, b, running, batches, momentum)
    yield batch_forward(draw, T, draw.values(T, 9, 5), eps=0.5)


@case("batch_norm_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield batch_forward(draw, T, np.ascontiguousarray(hard(draw, T).T))
    for rows in (7, 100, 1030):
        yield batch_forward(draw, T, np.ascontiguousarray(beside(draw, T, 18, rows).T))
    values = batch_forward(draw, T, draw.values(T, 5, 7))
    values[1][3], values[2][4], values[6][0], values[7][1] = np.nan, np.inf, np.inf, np.nan
    yield values


@case("batch_norm_forward", "more than 512 chunks", ("float32",))
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield batch_forward(draw, T, draw.values(T, MANY_ROWS, 2))


@case("batch_norm_apply", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, cols in (*SHAPES, (2, 1030)):
        x, variance = draw.values(T, rows, cols), draw.positive(T, cols)
        yield [x, draw.values(T, cols), variance, *affine(draw, T, cols), EPSILON, Out(x.shape)]


@case("batch_norm_apply", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, cols), (mean, w, b) in itertools.product(FEW, itertools.product((False, True), repeat=3)):
        x, variance = draw.values(T, rows, cols), draw.positive(T, cols)
        center = draw.values(T, cols) if mean else None
        yield [x, center, variance, *affine(draw, T, cols, w, b), EPSILON, Out(x.shape)]


@case("batch_norm_apply", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    x = hard(draw, T)
    mean, variance = draw.values(T, 19), draw.positive(T, 19)
    variance[:5] = 0, np.inf, np.nan, -1, np.finfo(T).tiny
    mean[5], mean[6] = np.nan, np.inf
    yield [x, mean, variance, *affine(draw, T, 19), EPSILON, Out(x.shape)]
    yield [x, None, variance, None, None, 0.0, Out(x.shape)]


@case("batch_norm_backward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in COLUMN_SHAPES:
        yield batch_backward(draw, T, draw.values(T, *shape))


@case("batch_norm_backward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, (w, dx) in itertools.product(FEW, itertools.product((False, True), repeat=2)):
        yield batch_backward(draw, T, draw.values(T, *shape), w, dx)


@case("batch_norm_backward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield batch_backward(draw, T, np.ascontiguousarray(hard(draw, T).T))
    values = batch_backward(draw, T, draw.values(T, 19, 5))
    values[0][3, 0], values[0][4, 1], values[0][:, 2], values[0][:, 3] = np.nan, np.inf, 0.0, -0.0
    yield values
