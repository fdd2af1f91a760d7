"""Cases of losses with several gradients, with and without weights and gradients; what all cases of losses share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.softmax import SHAPES
from cases.table import MANY, SIZES, Draw, Out, case

ROWS = tuple(shape for shape in SHAPES if shape[1] > 0)
FEW = ((0, 5), (1, 1), (5, 7), (33, 16), (70, 17), (3, 513))
PRESENT = tuple(itertools.product((False, True), repeat=3))  # column weights or a gradient, row weights, a gradient


def one(T: np.dtype, value: float) -> np.ndarray:
    return np.array([value], T)


def weighted(draw: Draw, T: np.dtype, rows: int, cols: int, present: tuple[bool, ...]) -> tuple[Any, Any, Any]:
    """Weights of columns and of rows, and the gradient, each perhaps absent."""
    column, row, gradient = present
    return (
        draw.positive(T, cols) if column else None,
        draw.positive(T, rows) if row else None,
        Out((rows, cols)) if gradient else None,
    )


@case("gaussian_nll_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, cols in (*SHAPES, *((n, 1) for n in SIZES)):
        x, target, var = draw.values(T, rows, cols), draw.values(T, rows, cols), draw.positive(T, rows, cols)
        shape = (rows, cols)
        yield [x, target, var, None, one(T, rows + 1), 1e-6, 0.0, Out((rows,)), Out(shape), Out(shape)]


@case("gaussian_nll_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, cols), (by_x, row, by_var), full in itertools.product((*FEW, (65, 1)), PRESENT, (0.0, 1.0)):
        x, target, var = draw.values(T, rows, cols), draw.values(T, rows, cols), draw.positive(T, rows, cols)
        s, dx, dvar = draw.positive(T, rows) if row else None, Out((rows, cols)), Out((rows, cols))
        floor = 0.4  # above some of the variances
        yield [
            x,
            target,
            var,
            s,
            one(T, 7.5),
            floor,
            full,
            Out((rows,)),
            dx if by_x else None,
            dvar if by_var else None,
        ]


@case("gaussian_nll_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    f = np.finfo(T)
    values = np.array([0.0, -0.0, 1.0, -1e4, f.tiny, np.inf, -np.inf, np.nan], T)
    variances = np.array([0.0, f.tiny, 1e-6, 0.5, 1.0, 1e4, np.inf, np.nan], T)
    x, var = (m.ravel() for m in np.meshgrid(values, variances))
    for shape in ((x.size, 1), (1, x.size), (8, x.size // 8)):
        operands = [x.reshape(shape), np.zeros(shape, T), var.reshape(shape)]
        yield [*operands, None, one(T, 3), 1e-6, 1.0, Out(shape[:1]), Out(shape), Out(shape)]


# (rows, components, cols)
MIXTURES = (
    (0, 3, 2), (1, 1, 1), (5, 1, 3), (300, 5, 1), (33, 7, 1), (4, 17, 1), (70, 3, 2), (9, 16, 4), (6, 33, 17),
    (3, 2, 513), (2, 5, 1025), (2, 600, 1), (MANY // 10, 4, 1),
)  # fmt: skip


def mixture(draw: Draw, T: np.dtype, rows: int, components: int, cols: int) -> list[np.ndarray]:
    shape = rows, components, cols
    log_stds = (draw.values(T, *shape) * 0.5).astype(T)
    return [draw.values(T, rows, components), draw.values(T, *shape), log_stds, draw.values(T, rows, cols)]


@case("mixture_nll_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, components, cols in MIXTURES:
        gradients = Out((rows, components)), Out((rows, components, cols)), Out((rows, components, cols))
        yield [*mixture(draw, T, rows, components, cols), None, one(T, rows + 1), Out((rows,)), *gradients]


@case("mixture_nll_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, components, cols), row in itertools.product(((7, 3, 1), (5, 4, 3)), (False, True)):
        for by_logits, by_means, by_stds in PRESENT:
            s, shape = draw.positive(T, rows) if row else None, (rows, components, cols)
            gradients = (
                Out(shape[:2]) if by_logits else None,
                Out(shape) if by_means else None,
                Out(shape) if by_stds else None,
            )
            yield [*mixture(draw, T, *shape), s, one(T, 7.5), Out((rows,)), *gradients]


@case("mixture_nll_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for cols in (1, 2):
        logits, means, log_stds, target = mixture(draw, T, 12, 4, cols)
        logits[0, 1:3] = -np.inf  # components without weight
        logits[1] = -np.inf
        logits[2, 0] = np.inf
        logits[3, 0] = np.nan
        logits[4] += 1e4
        means[5] += 300  # so far off that no density is a number
        target[6, 0] = np.inf
        means[7, 2, 0] = np.nan
        log_stds[8, :, 0] = -20, -60, 20, 60
        log_stds[9] = -1000  # narrower than a number can say
        means[9] = target[9]
        log_stds[10, :2] = -np.inf
        log_stds[11] = -80  # and so far off that no loss is a number
        shape = means.shape
        gradients = Out(shape[:2]), Out(shape), Out(shape)
        yield [logits, means, log_stds, target, None, one(T, 3), Out((12,)), *gradients]


def signs(draw: Draw, T: np.dtype, rows: int) -> np.ndarray:
    """Targets of pairs: alike and unlike, and some that are neither."""
    return draw.rng.choice([-1.0, 1.0, 0.0], rows, p=[0.45, 0.45, 0.1]).astype(T)


@case("cosine_embedding_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for rows, cols in SHAPES:
        a, b, target = draw.values(T, rows, cols), draw.values(T, rows, cols), signs(draw, T, rows)
        shape = rows, cols
        yield [a, b, target, None, one(T, rows + 1), 0.1, Out((rows,)), Out(shape), Out(shape)]


@case("cosine_embedding_forward", "options")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, (by_a, row, by_b), margin in itertools.product(FEW, PRESENT, (-0.5, 0.0, 0.5)):
        a, b, target = draw.values(T, *shape), draw.values(T, *shape), signs(draw, T, shape[0])
        s, da, db = draw.positive(T, shape[0]) if row else None, Out(shape), Out(shape)
        yield [a, b, target, s, one(T, 7.5), margin, Out(shape[:1]), da if by_a else None, db if by_b else None]


@case("cosine_embedding_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    a, b = draw.values(T, 12, 19), draw.values(T, 12, 19)
    a[0] = 0
    a[1], b[1] = 0, 0
    b[2] = a[2]
    b[3] = -a[3]
    a[4] *= T.type(1e-8)
    a[5] *= T.type(1e15)
    a[6, 3] = np.nan
    b[7, 3] = np.inf
    a[8, ::2], b[8, 1::2] = 0, 0
    a[9] *= T.type(np.finfo(T).tiny)
    for target in (1.0, -1.0, 0.0, np.nan):
        targets = np.full(12, target, T)
        yield [a, b, targets, None, one(T, 3), 0.5, Out((12,)), Out(a.shape), Out(a.shape)]
