"""Cases of element-wise kernels. A new unary operation is one row of UNARY."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.table import MANY, SIZES, Draw, Out, case, special
from fastbp.kernels import reference

# ---------------------------------------------------------------- unary

# Constants to try, one tuple a call.
UNARY: dict[str, list[tuple[float, ...]]] = {
    "neg": [()],
    "exp": [()],
    "log": [()],
    "log1p": [()],
    "expm1": [()],
    "sqrt": [()],
    "square": [()],
    "abs": [()],
    "sin": [()],
    "cos": [()],
    "sine": [(1.0,), (0.5,)],
    "clamp": [(-0.5, 1.1), (0.0, np.inf), (2.0, 1.0)],
    "reciprocal": [()],
    "erf": [()],
    "tanh": [()],
    "sigmoid": [()],
    "relu": [()],
    "leaky_relu": [(0.01,), (0.3,)],
    "elu": [(1.0,), (0.7,)],
    "gelu": [()],
    "gelu_tanh": [()],
    "silu": [()],
    "softplus": [()],
    "mish": [()],
}


def saved(name: str, x: np.ndarray, constants: tuple[float, ...]) -> np.ndarray:
    """What the operation keeps for its derivative at x."""
    if getattr(reference, f"{name}_backward").facts.saved == "x":
        return x
    y = np.empty_like(x)
    getattr(reference, f"{name}_forward")(x, *constants, y)
    return y


def unary_cases(name: str) -> None:
    @case(f"{name}_forward", "sizes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for constants, n in itertools.product(UNARY[name], (*SIZES, MANY)):
            yield [draw.spread(T, n), *constants, Out((n,))]
        yield [draw.values(T, 3, 5, 7), *UNARY[name][0], Out((3, 5, 7))]
        yield [draw.values(T), *UNARY[name][0], Out(())]

    @case(f"{name}_forward", "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for constants in UNARY[name]:
            yield [special(T), *constants, Out(special(T).shape)]

    @case(f"{name}_backward", "sizes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for constants, n in itertools.product(UNARY[name], (*SIZES, MANY)):
            yield [draw.values(T, n), saved(name, draw.spread(T, n), constants), *constants, Out((n,))]

    @case(f"{name}_backward", "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for constants in UNARY[name]:
            s = saved(name, special(T), constants)
            for dy in (1.0, -2.5, 0.0, -0.0, np.inf, -np.inf, np.nan):
                yield [np.full_like(s, dy), s, *constants, Out(s.shape)]


for _name in UNARY:
    unary_cases(_name)


@case("sine_forward", "rounded products")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield [draw.spread(T, MANY), 30.0, Out((MANY,))]


@case("sine_backward", "rounded products")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    yield [draw.values(T, MANY), draw.spread(T, MANY), 30.0, Out((MANY,))]


# ---------------------------------------------------------------- broadcasting

BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and",
          "logical_or", "logical_xor")  # fmt: skip
BROADCASTS = (
    ((5, 7), (7,)), ((7,), (5, 7)), ((5, 1), (1, 7)), ((5, 7), ()), ((), (5, 7)), ((1,), (3,)), ((5, 1), (5, 33)),
    ((3, 5, 1, 2), (5, 4, 1)), ((2, 1, 3, 1, 5), (2, 7, 1, 4, 5)), ((0, 3), (3,)), ((4, 1), (1, 0)), ((), ()),
    ((65, 17), (65, 1)), ((129, 33), (33,)), ((2,) * 8, (1, 2) * 4),
)  # fmt: skip


def result(name: str) -> str | None:
    """The type of a binary kernel's output, None for that of the operands."""
    return "bool" if name[:2] in ("eq", "ne", "lt", "le", "gt", "ge") or name.startswith("logical") else None


def exponents(name: str, b: np.ndarray) -> np.ndarray:
    """Second operands of ordinary size for pow, whose result else is 0 or infinite nearly everywhere."""
    return np.clip(b, -8, 8) if name == "pow" else b


def binary_cases(name: str) -> None:
    @case(name, "sizes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for n in (*SIZES, MANY):
            a, b = draw.spread(T, n), exponents(name, draw.spread(T, n))
            if n > 2:
                b[: n // 3] = a[: n // 3]  # some are equal
            yield [a if name != "pow" else np.abs(a), b, Out((n,), result(name))]

    @case(name, "broadcasting")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for a, b in BROADCASTS:
            y = np.broadcast_shapes(a, b)
            yield [draw.values(T, *a), draw.values(T, *b), Out(y, result(name))]

    @case(name, "numbers", tuple(t for t in getattr(reference, name).facts.dtypes if t != "bool") or None)
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        number = {"f": 0.3, "i": 3, "b": True}[T.kind]
        for shape in ((), (1,), (17,), (5, 33), (MANY,)):
            yield [draw.values(T, *shape), number, Out(shape, result(name))]
            yield [number, draw.values(T, *shape), Out(shape, result(name))]

    @case(name, "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        s = special(T)
        yield [np.repeat(s, s.size), np.tile(s, s.size), Out((s.size**2,), result(name))]
        yield [s[:, None], s[None, :], Out((s.size, s.size), result(name))]


for _name in BINARY:
    binary_cases(_name)


@case("where", "broadcasting")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for n in (*SIZES, MANY):
        yield [draw.mask(n), draw.values(T, n), draw.values(T, n), Out((n,))]
    for (a, b), c in itertools.product(BROADCASTS, ((), (5, 7), (1,), (7, 1))):
        try:
            y = np.broadcast_shapes(a, b, c)
        except ValueError:
            continue
        yield [draw.mask(*c), draw.values(T, *a), draw.values(T, *b), Out(y)]
        yield [draw.mask(*a), draw.values(T, *b), draw.values(T, *c), Out(y)]


@case("where", "numbers", ("float32", "float64", "int64"))
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    number = 0.3 if T.kind == "f" else 3
    condition = draw.mask(5, 33)
    yield [condition, draw.values(T, 5, 33), number, Out((5, 33))]
    yield [condition, number, draw.values(T, 33), Out((5, 33))]
    yield [condition, number, number + 1, Out((5, 33))]


@case("where", "special")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    s = special(T)
    for c in (True, False):
        yield [np.full(s.shape, c), s, s[::-1].copy(), Out(s.shape)]


@case("logical_not", "sizes")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for n in (*SIZES, MANY):
        yield [draw.values(T, n), Out((n,))]
