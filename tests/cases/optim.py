"""Cases of optimizer steps and gradient clipping."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cases.table import MANY, SIZES, Draw, Out, case, special

LISTS = ([(3, 5), (0,), (17,), (1,), (513,), (2, 2, 2), ()], [(MANY,)], [(1,)] * 40, [(64, 33), (33,)], [(0,)], [])
LR, DECAY = 0.01, 0.02


def tensors(draw: Draw, T: np.dtype, shapes: list[tuple[int, ...]], present: bool = True) -> list[np.ndarray]:
    return [draw.values(T, *s) for s in shapes] if present else []


def squares(draw: Draw, T: np.dtype, shapes: list[tuple[int, ...]], present: bool = True) -> list[np.ndarray]:
    """Averages of squares: above those of gradients, as the variance in a centered step is positive."""
    return [np.asarray(1 + draw.values(T, *s) ** 2, T) for s in shapes] if present else []


def hyper(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def optimizer_cases(kernel: str, arguments: Callable[..., Iterator[list[Any]]]) -> None:
    """Cases over lists of tensors, and with gradients that are special values."""

    @case(kernel, "lists")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for shapes in LISTS:
            yield from arguments(draw, T, shapes)

    @case(kernel, "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        s = special(T)
        s = s[~(np.abs(s) > 1e9) | np.isinf(s)]
        for operands in arguments(draw, T, [s.shape]):
            operands[1] = [s]
            yield operands


def sgd(draw: Draw, T: np.dtype, shapes: list[tuple[int, ...]]) -> Iterator[list[Any]]:
    for (step, momentum, dampening), nesterov, decay in itertools.product(
        ((1, 0.0, 0.0), (1, 0.9, 0.3), (5, 0.9, 0.3), (5, 0.0, 0.0)), (False, True), (0.0, DECAY)
    ):
        if nesterov and not momentum:
            continue
        h = hyper(step, LR, decay, momentum, dampening)
        yield [h, tensors(draw, T, shapes), tensors(draw, T, shapes, momentum > 0), nesterov, tensors(draw, T, shapes)]


def rmsprop(draw: Draw, T: np.dtype, shapes: list[tuple[int, ...]]) -> Iterator[list[Any]]:
    for centered, momentum, decay in itertools.product((False, True), (0.0, 0.9), (0.0, DECAY)):
        h = hyper(3, LR, decay, 0.99, 1e-8, momentum)
        means = [np.asarray(0.1 * t, T) for t in tensors(draw, T, shapes, centered)]
        yield [h, tensors(draw, T, shapes), squares(draw, T, shapes), means, tensors(draw, T, shapes, momentum > 0),
               tensors(draw, T, shapes)]  # fmt: skip


def adagrad(draw: Draw, T: np.dtype, shapes: list[tuple[int, ...]]) -> Iterator[list[Any]]:
    for step, lr_decay, decay in itertools.product((1, 9), (0.0, 0.1), (0.0, DECAY)):
        h = hyper(step, LR, decay, lr_decay, 1e-10)
        yield [h, tensors(draw, T, shapes), squares(draw, T, shapes), tensors(draw, T, shapes)]


def adam(draw: Draw, T: np.dtype, shapes: list[tuple[int, ...]]) -> Iterator[list[Any]]:
    for step, amsgrad, decay, beta1 in itertools.product((1, 30), (False, True), (0.0, DECAY), (0.9, 0.3)):
        h = hyper(step, LR, decay, beta1, 0.999, 1e-8, beta1**step, 0.999**step)
        yield [h, tensors(draw, T, shapes), tensors(draw, T, shapes), squares(draw, T, shapes),
               squares(draw, T, shapes, amsgrad), tensors(draw, T, shapes)]  # fmt: skip


optimizer_cases("sgd_step", sgd)
optimizer_cases("rmsprop_step", rmsprop)
optimizer_cases("adagrad_step", adagrad)
optimizer_cases("adam_step", adam)
optimizer_cases("adamw_step", adam)


@case("optimizer_advance", "steps")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield [hyper(0, LR, DECAY, 0.9, 0.0)]
    yield [hyper(41, LR, DECAY, 0.1, 1e-10, 0.5)]


@case("adam_advance", "steps")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield [hyper(0, LR, DECAY, 0.9, 0.999, 1e-8, 1.0, 1.0)]
    yield [hyper(7, LR, DECAY, 0.9, 0.999, 1e-8, 0.9**7, 0.999**7)]


@case("gradient_norm", "lists")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shapes in (*LISTS, *([(n,)] for n in SIZES)):
        yield [tensors(draw, T, shapes), Out((1,))]


@case("gradient_norm", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for value in (np.nan, np.inf, -np.inf, -0.0, 0.0):
        grads = tensors(draw, T, [(5,), (600,)])
        grads[1][517] = value
        yield [grads, Out((1,))]
    yield [[np.zeros(3, T), np.full(4, -0.0, T)], Out((1,))]


@case("clip_coefficient", "norms")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for norm, bound in itertools.product((0.0, 0.5, 1.0, 3.0, 1e9, np.inf, np.nan), (0.0, 1.0, 2.5, np.inf)):
        yield [np.array([norm], T), bound, Out((1,))]


@case("scale_gradients", "lists")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shapes, coefficient in itertools.product(LISTS, (1.0, 0.3, 0.0, np.nan)):
        yield [np.array([coefficient], T), tensors(draw, T, shapes)]
