"""Cases of softmax and log_softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.table import MANY, Draw, Out, case
from fastbp.kernels import reference

SHAPES = (
    (0, 5), (3, 0), (1, 1), (5, 1), (MANY, 1), (3, 2), (33, 3), (1, 7), (9, 8), (100, 10), (7, 15), (65, 16), (2, 17),
    (31, 61), (300, 33), (3, 511), (2, 512), (5, 513), (4, 1025), (1, MANY),
)  # fmt: skip


def hard_rows(draw: Draw, T: np.dtype) -> np.ndarray:
    """Rows with values that are large, masked, infinite or not a number."""
    x = draw.values(T, 14, 19)
    x[0] *= 1e4
    x[1] += 1e6
    x[2, 3:9] = -np.inf
    x[3] = -np.inf
    x[4, 7] = np.inf
    x[5, 2] = np.nan
    x[6], x[6, 5] = -np.inf, 3
    x[7] = 0
    x[8] = -1e30
    x[9, 0], x[9, -1] = 1e30, -1e30
    x[10] = np.linspace(-110, 0, 19)
    x[11] = np.linspace(-760, 0, 19)
    x[12, :2] = np.nan, np.inf
    x[13, 16], x[13, 18] = np.inf, -np.inf
    return x


for _name in ("softmax", "log_softmax"):

    @case(f"{_name}_forward", "shapes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for rows, cols in SHAPES:
            yield [(draw.values(T, rows, cols) * 3).astype(T), Out((rows, cols))]

    @case(f"{_name}_forward", "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        x = hard_rows(draw, T)
        yield [x, Out(x.shape)]
        yield [x[:, :3].copy(), Out((14, 3))]

    def backward(forward: Any, draw: Draw, T: np.dtype, x: np.ndarray) -> list[Any]:
        y = np.empty_like(x)
        forward(x, y)
        return [draw.values(T, *x.shape), y, Out(x.shape)]

    @case(f"{_name}_backward", "shapes")
    def _(draw: Draw, T: np.dtype, forward: Any = getattr(reference, f"{_name}_forward")) -> Iterator[list[Any]]:
        for rows, cols in SHAPES:
            yield backward(forward, draw, T, draw.values(T, rows, cols))

    @case(f"{_name}_backward", "special")
    def _(draw: Draw, T: np.dtype, forward: Any = getattr(reference, f"{_name}_forward")) -> Iterator[list[Any]]:
        yield backward(forward, draw, T, hard_rows(draw, T))
        dy, y, out = backward(forward, draw, T, draw.values(T, 5, 19))
        dy[0, 3], dy[1, 4], dy[2], dy[3] = np.nan, np.inf, 0.0, -0.0
        yield [dy, y, out]
