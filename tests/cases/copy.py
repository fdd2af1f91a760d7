"""Cases of copies and their kin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.table import MANY, SIZES, Draw, Out, case, special

ALL = ("float32", "float64", "int64", "bool")


def views(x: np.ndarray) -> list[np.ndarray]:
    """The same array seen with other strides."""
    every_second = x[tuple(slice(None, None, 2) for _ in x.shape)]
    backwards = x[tuple(slice(None, None, -1) for _ in x.shape)]
    spread = np.broadcast_to(x[..., :1], x.shape)
    return [x, x.T, np.moveaxis(x, 0, -1), every_second, backwards, spread, np.broadcast_to(x[:1], x.shape)]


STRIDED_SHAPES = ((1,), (17,), (7, 5), (16, 64), (67, 71), (3, 4, 5), (2, 9, 33), (1, 5, 1, 6), (2,) * 8, (130, 90))


@case("copy", "strided")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape in STRIDED_SHAPES:
        for x in views(draw.values(T, *shape)):
            yield [x, Out(x.shape)]
            for y in views(np.empty(x.shape, T))[:3]:
                y = y.reshape(y.shape)
                if y.shape == x.shape:
                    yield [x, Out(y.shape, None, tuple(s // T.itemsize for s in y.strides))]
            yield [x, Out(x.shape, None, tuple(2 * s // T.itemsize for s in np.empty(x.shape, T).strides))]


@case("copy", "sizes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for n in (*SIZES, MANY):
        yield [draw.values(T, n), Out((n,))]
    for shape in ((), (0, 3), (3, 0), (2, 3, 0, 4)):
        yield [draw.values(T, *shape), Out(shape)]
    yield [special(T), Out(special(T).shape)]


@case("cast", "all pairs")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for to in ALL:
        for n in (*SIZES, MANY):
            yield [draw.spread(T, n), Out((n,), to)]
        yield [special(T), Out(special(T).shape, to)]
        yield [draw.values(T, 3, 5), Out((3, 5), to)]
        if T.kind == "f":
            edges = np.array([2.0**63, -(2.0**63), 2.0**62, -(2.0**64), 0.99, -0.99, 1.5, -1.5], T)
            near = np.concatenate([edges, np.nextafter(edges, T.type(0)), np.nextafter(edges, np.inf, dtype=T)])
            yield [near, Out(near.shape, to)]


@case("fill", "strided")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    numbers = {"f": (0.0, -0.0, 0.3, np.nan, -np.inf), "i": (0, 7, -(2**40)), "b": (False, True)}[T.kind]
    for value in numbers:
        for n in (*SIZES, MANY):
            yield [value, Out((n,))]
        for shape in ((), (3, 0), (5, 7)):
            yield [value, Out(shape)]
        for shape, strides in (((5, 7), (1, 5)), ((5, 7), (14, 2)), ((9,), (-3,)), ((3, 4, 5), (40, 1, 7))):
            yield [value, Out(shape, None, strides)]


@case("concatenate", "axes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for shape, axis, widths in (
        ((5,), 0, (3, 0, 17)), ((5, 7), 0, (1, 2)), ((5, 7), 1, (1, 16, 3)), ((3, 5, 7), 1, (2, 0, 4, 1)),
        ((3, 5, 7), 2, (64, 1)), ((2, 3), 1, (0, 0)), ((0, 3), 1, (2, 3)), ((2, 3), 1, (5,)), ((33, 2), 1, (1,) * 40),
        ((100, 2, 1), 1, (30, 31, 5)),
    ):  # fmt: skip
        shapes = [(*shape[:axis], width, *shape[axis + 1 :]) for width in widths]
        whole = (*shape[:axis], sum(widths), *shape[axis + 1 :])
        yield [[draw.values(T, *s) for s in shapes], axis, Out(whole)]


ROWS = ((1, 1), (5, 1), (9, 3), (4, 16), (7, 17), (3, 0), (50, 33), (MANY, 1), (300, 64))


@case("gather", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, inner), shape in itertools.product(ROWS, ((), (0,), (1,), (2, 3), (61,), (513,))):
        index = draw.index(rows, *shape)
        yield [draw.values(T, rows, inner), index, Out((index.size, inner))]
    yield [draw.values(T, 0, 4), draw.index(1, 0), Out((0, 4))]


@case("scatter_add", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, inner), shape in itertools.product(ROWS, ((), (0,), (1,), (2, 3), (61,), (513,))):
        index = draw.index(rows, *shape)
        yield [draw.values(T, index.size, inner), index, draw.values(T, rows, inner)]
    yield [draw.values(T, 513, 5), draw.index(1, 513), draw.values(T, 1, 5)]


@case("accumulate", "sizes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for n in (*SIZES, MANY):
        yield [draw.spread(T, n), draw.spread(T, n)]
    yield [draw.values(T, 3, 5), draw.values(T, 3, 5)]
    s = special(T)
    yield [np.repeat(s, s.size), np.tile(s, s.size)]


@case("arange", "sizes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    steps = ((0, 1), (5, -3), (-(2**40), 2**20)) if T == np.int64 else ((0.0, 1.0), (0.1, 0.1), (3.0, -1e-3))
    for (start, step), n in itertools.product(steps, (*SIZES, MANY)):
        yield [start, step, Out((n,))]


@case("scatter", "shapes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for (rows, inner), shape in itertools.product(ROWS, ((), (0,), (1,), (2, 3), (61,), (513,))):
        index = draw.index(rows, *shape)
        yield [draw.values(T, index.size, inner), index, draw.values(T, rows, inner)]


@case("wrap_index", "sizes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for n in (*SIZES, MANY):
        yield [draw.index(14, n) - 7, 7, Out((n,))]
