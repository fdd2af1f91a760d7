"""Cases of losses that are sums over elements, each with and without coefficients, weights and gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases.loss import FEW, PRESENT, one, weighted
from cases.softmax import SHAPES
from cases.table import SIZES, Draw, Out, case

Operand = Callable[..., np.ndarray]


def values(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.values(T, *shape)


def rounded(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    """Values with ties."""
    return draw.values(T, *shape).round(1)


def wide(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.values(T, *shape) * T.type(4)


def share(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.rng.random(shape).astype(T)


def truth(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.rng.integers(0, 2, shape).astype(T)


def sign(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.rng.choice([-1, 1], shape).astype(T)


def count(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.rng.poisson(2.0, shape).astype(T)


def positive(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return draw.positive(T, *shape)


def log_share(draw: Draw, T: np.dtype, *shape: int) -> np.ndarray:
    return np.log(draw.positive(T, *shape) / T.type(2))


@dataclass(frozen=True)
class Kind:
    """What a loss is tried on: draws of x and target, sets of constants, and special values of both."""

    x: Operand
    target: Operand
    constants: tuple[tuple[float, ...], ...] = ((),)
    special: tuple[float, ...] = (0.0, -0.0, 1.0, -1.0, 1e4, np.inf, -np.inf, np.nan)
    special_targets: tuple[float, ...] = (0.0, 1.0, 0.5, np.nan)
    coefficient: bool = False


LOGITS = (0.0, -0.0, 1.0, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4, np.nan)
FOCAL = ((0.25, 2.0), (-1.0, 2.0), (0.75, 0.0), (0.0, 0.5), (0.4, 1.0), (-1.0, 5.5))
LOSSES = {
    "mse": Kind(values, values),
    "l1": Kind(rounded, rounded),
    "huber": Kind(rounded, rounded, ((1.0,), (0.3,), (10.0,), (np.inf,))),
    "smooth_l1": Kind(rounded, rounded, ((1.0,), (0.3,), (10.0,), (0.0,))),
    "quantile": Kind(rounded, rounded, coefficient=True),
    "binary_cross_entropy": Kind(share, share, special=(0.0, 1.0, -0.0, 1e-13, 0.5, np.nan)),
    "sigmoid_cross_entropy": Kind(wide, share, special=LOGITS, coefficient=True),
    "sigmoid_focal": Kind(wide, truth, FOCAL, LOGITS),
    "hinge": Kind(values, sign, special_targets=(1.0, -1.0, 0.5, np.nan)),
    "hinge_embedding": Kind(rounded, sign, ((1.0,), (0.5,), (-2.0,)), special_targets=(1.0, -1.0, 0.0, np.nan)),
    "poisson_nll": Kind(positive, count, ((1e-8, 0.0), (1e-3, 1.0)), special_targets=(0.0, 1.0, 2.0, 1e4, np.nan)),
    "poisson_log_nll": Kind(values, count, ((0.0,), (1.0,)), (*LOGITS, np.inf, -np.inf), (0.0, 1.0, 2.0, 1e4, np.nan)),
    "kl_div": Kind(log_share, share, special_targets=(0.0, 1.0, 0.5, -0.5, np.nan)),
    "kl_log_div": Kind(log_share, log_share, special_targets=(0.0, -1.0, -1e4, -np.inf, np.nan)),
}


def element_loss_cases(name: str, kind: Kind) -> None:
    @case(f"{name}_forward", "shapes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for rows, cols in (*SHAPES, *((n, 1) for n in SIZES)):
            x, target = kind.x(draw, T, rows, cols), kind.target(draw, T, rows, cols)
            yield [x, target, None, None, one(T, rows + 1), *kind.constants[0], Out((rows,)), Out((rows, cols))]

    @case(f"{name}_forward", "options")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for shape, constants, (column, row, gradient) in itertools.product(
            (*FEW, (5, 0), (65, 1)), kind.constants, PRESENT
        ):
            rows, cols = shape
            x, target = kind.x(draw, T, rows, cols), kind.target(draw, T, rows, cols)
            p, s, dx = weighted(draw, T, rows, cols, (column and kind.coefficient, row, gradient))
            yield [x, target, p, s, one(T, 7.5), *constants, Out((rows,)), dx]
            if p is not None:
                of_elements = draw.positive(T, rows, cols)
                yield [x, target, of_elements, s, one(T, 7.5), *constants, Out((rows,)), dx]

    @case(f"{name}_forward", "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        special = np.array([*kind.special, np.finfo(T).tiny], T)
        targets = np.array(kind.special_targets, T)
        x, target = (m.ravel() for m in np.meshgrid(special, targets))
        for constants, shape in itertools.product(
            kind.constants, ((x.size, 1), (1, x.size), (targets.size, special.size))
        ):
            operands = [x.reshape(shape), target.reshape(shape), None, None, one(T, 3)]
            yield [*operands, *constants, Out(shape[:1]), Out(shape)]


for _name, _kind in LOSSES.items():
    element_loss_cases(_name, _kind)
