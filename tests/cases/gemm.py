"""Cases of matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.table import Draw, Out, case, special

# (m, k, n): ones, empties, around tiles and chunks, enough rows or columns for several threads.
PRODUCTS = (
    (1, 1, 1), (1, 7, 1), (2, 3, 5), (0, 3, 4), (3, 0, 4), (3, 4, 0), (5, 1, 3), (7, 17, 9), (13, 31, 33), (14, 16, 32),
    (15, 15, 31), (6, 8, 16), (1, 511, 3), (3, 512, 1), (4, 513, 17), (5, 1025, 7), (33, 65, 129), (129, 33, 70),
    (64, 64, 64), (16, 1024, 32), (257, 19, 5), (2, 40, 513),
)  # fmt: skip
# The names of activations, with their constant.
ACTIVATIONS = (
    ("relu", 0.0), ("leaky_relu", 0.1), ("elu", 1.0), ("gelu", 0.0), ("gelu_tanh", 0.0), ("silu", 0.0),
    ("softplus", 0.0), ("mish", 0.0), ("tanh", 0.0), ("sigmoid", 0.0), ("sine", 30.0),
)  # fmt: skip

OPTIONS = tuple(itertools.product((False, True), repeat=2))  # a bias, the value before the activation


def stored(x: np.ndarray, transpose: bool) -> np.ndarray:
    """x, or its last two axes exchanged in memory."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)) if transpose else x


@case("matmul", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (m, k, n), ta, tb in itertools.product(PRODUCTS, (False, True), (False, True)):
        a, b = draw.values(T, 1, m, k), draw.values(T, 1, k, n)
        yield [stored(a, ta), stored(b, tb), ta, tb, False, Out((1, m, n))]
        yield [stored(a, ta), stored(b, tb), ta, tb, True, draw.values(T, 1, m, n)]


@case("matmul", "batches")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for ta, tb in itertools.product((False, True), (False, True)):
        for left, right in ((3, 3), (1, 3), (3, 1), (0, 0), (2, 2)):
            for m, k, n in ((5, 7, 9), (1, 33, 1), (14, 20, 3)):
                a, b = draw.values(T, left, m, k), draw.values(T, right, k, n)
                batch = 0 if left == 0 else max(left, right)
                yield [stored(a, ta), stored(b, tb), ta, tb, False, Out((batch, m, n))]
                yield [stored(a, ta), stored(b, tb), ta, tb, True, draw.values(T, batch, m, n)]
        a, b = draw.values(T, 5, 7), draw.values(T, 7, 9)
        yield [stored(a, ta), stored(b, tb), ta, tb, False, Out((5, 9))]


@case("matmul", "more than 512 chunks")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    k = 512 * 513 + 7
    yield [draw.values(T, 2, k), draw.values(T, k, 3), False, False, False, Out((2, 3))]
    yield [draw.values(T, k, 2), draw.values(T, 3, k), True, True, False, Out((2, 3))]


@case("matmul", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for value in (np.nan, np.inf, -np.inf, -0.0, np.finfo(T).smallest_subnormal):
        for m, k, n in ((5, 7, 9), (14, 513, 33)):
            a, b = draw.values(T, m, k), draw.values(T, k, n)
            a[m // 2, k // 3] = value
            b[k // 3, n // 2] = 0  # 0·NaN and 0·∞ are NaN
            yield [a, b, False, False, False, Out((m, n))]
            yield [stored(b, True), stored(a, True), False, False, False, Out((n, m))]
    yield [np.full((3, 5), -0.0, T), np.ones((5, 4), T), False, False, False, Out((3, 4))]


@case("linear_forward", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (m, k, n), bias, z in itertools.product(PRODUCTS, (False, True), (False, True)):
        x, w, b = draw.values(T, m, k), draw.values(T, n, k), draw.values(T, n) if bias else None
        yield [x, w, b, None, 0.0, Out((m, n)) if z else None, Out((m, n))]


@case("linear_forward", "activations")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    small = [(shape, *options) for shape in ((0, 3, 4), (5, 7, 9)) for options in OPTIONS]
    for (activation, constant), ((m, k, n), bias, z) in itertools.product(
        ACTIVATIONS, (*small, ((33, 513, 70), True, True))
    ):
        x, w, b = draw.values(T, m, k), draw.values(T, n, k), draw.values(T, n) if bias else None
        yield [x, w / T.type(np.sqrt(k)), b, activation, constant, Out((m, n)) if z else None, Out((m, n))]


@case("linear_forward", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    s = special(T)
    small = s[~(np.abs(s) > 1e9)]
    for activation, constant in ((None, 0.0), *ACTIVATIONS):
        x, w, b = np.ones((3, 1), T), small[:, None].copy(), np.zeros(small.size, T)
        yield [x, w, b, activation, constant, Out((3, small.size)), Out((3, small.size))]


@case("linear_backward_input", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for m, k, n in PRODUCTS:
        yield [draw.values(T, m, n), draw.values(T, n, k), None, 0.0, None, Out((m, k))]


@case("linear_backward_input", "activations")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (activation, constant), (m, k, n) in itertools.product(ACTIVATIONS, ((0, 3, 4), (5, 7, 9), (33, 70, 513))):
        s = np.clip(draw.values(T, m, k), -0.9, 0.9)  # a possible output of every activation
        yield [draw.values(T, m, n), draw.values(T, n, k), activation, constant, s, Out((m, k))]


@case("linear_backward_input", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for activation, constant in (("relu", 0.0), ("leaky_relu", 0.1)):
        dy, w = draw.values(T, 5, 7), draw.values(T, 7, 6)
        s = np.array([np.nan, -0.0, 0.0, -1.0, 1.0, np.inf], T) * np.ones((5, 1), T)
        dy[2, 3] = np.nan
        yield [dy, w, activation, constant, s, Out((5, 6))]


@case("linear_backward_weight", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (m, k, n), accumulate, bias in itertools.product(PRODUCTS, (False, True), (False, True)):
        dy, x = draw.values(T, m, n), draw.values(T, m, k)
        dw, db = (draw.values(T, n, k), draw.values(T, n)) if accumulate else (Out((n, k)), Out((n,)))
        yield [dy, x, accumulate, dw, db if bias else None]


@case("linear_backward_weight", "many rows")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for m in (511, 512, 513, 1024, 1537):
        yield [draw.values(T, m, 17), draw.values(T, m, 33), False, Out((17, 33)), Out((17,))]
        yield [draw.values(T, m, 1), draw.values(T, m, 5), True, draw.values(T, 1, 5), draw.values(T, 1)]


@case("linear_backward_weight", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for value in (np.nan, np.inf, -0.0):
        dy, x = draw.values(T, 7, 5), draw.values(T, 7, 9)
        dy[3, 2], x[3, 4] = value, 0
        yield [dy, x, False, Out((5, 9)), Out((5,))]
