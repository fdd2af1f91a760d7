"""Cases of reductions. x (outer, r, inner): inner = 1 is the last-axis rule, else the leading-axis rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cases.table import MANY, SIZES, Draw, Out, case, special
from fastbp.kernels import reference

# Kernels with the by-value constants to try, whether r = 0 has a value, and the type of y (None: that of x).
REDUCTIONS: dict[str, tuple[list[tuple[int, ...]], bool, str | None]] = {
    "reduce_sum": ([()], True, None),
    "reduce_mean": ([()], True, None),
    "reduce_max": ([()], False, None),
    "reduce_min": ([()], False, None),
    "reduce_var": ([(0,), (1,)], False, None),
    "reduce_logsumexp": ([()], True, None),
    "argmax": ([()], False, "int64"),
    "argmin": ([()], False, "int64"),
}
SHAPES = (
    (3, 17, 1), (70, 5, 1), (7, 513, 1), (2, 1025, 1), (300, 33, 1), (0, 5, 1), (1, 5, 0),
    (1, 1, 7), (1, 3, 2), (1, 16, 16), (1, 17, 33), (1, 512, 5), (1, 513, 64), (1, 1025, 3), (2, 1537, 17), (3, 4, 5),
    (1, 9, MANY), (40, 3, 129),
)  # fmt: skip


def reduction_cases(name: str) -> None:
    constants_list, empty, dtype = REDUCTIONS[name]
    T_first = getattr(reference, name).facts.dtypes

    @case(name, "flat")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for constants in constants_list:
            for n in (*SIZES, MANY):
                if n or empty:
                    yield [draw.values(T, 1, n, 1), *constants, Out((1, 1), dtype)]

    @case(name, "shapes")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        for constants in constants_list:
            for outer, r, inner in SHAPES:
                yield [draw.values(T, outer, r, inner), *constants, Out((outer, inner), dtype)]
        if empty:
            yield [draw.values(T, 3, 0, 1), *constants_list[0], Out((3, 1), dtype)]
            yield [draw.values(T, 3, 0, 5), *constants_list[0], Out((3, 5), dtype)]

    @case(name, "more than 512 chunks", T_first[:1])
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        r = 512 * 513 + 700
        yield [draw.values(T, 1, r, 1), *constants_list[0], Out((1, 1), dtype)]
        yield [draw.values(T, 1, r, 2), *constants_list[0], Out((1, 2), dtype)]

    @case(name, "special")
    def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
        s = special(T)
        finite = s[np.abs(s.astype(np.float64)) < 1e9] if T.kind == "f" else s
        rows = [np.array([a, b, c], T) for a in finite for b in finite[:6] for c in finite[-4:]]
        yield [np.stack(rows)[:, :, None].copy(), *constants_list[0], Out((len(rows), 1), dtype)]
        yield [np.stack(rows).T[None].copy(), *constants_list[0], Out((1, len(rows)), dtype)]
        for n in (7, 40, 600):
            x = draw.values(T, 9, n)
            x[0, n // 2] = s[-1]  # NaN, or the largest integers
            x[1, n - 1], x[1, 0] = s[-1], s[-2]
            x[2, n // 3] = s[0] if T.kind != "f" else np.inf
            x[3, n // 3] = s[1] if T.kind != "f" else -np.inf
            x[4] = x[4, 0]
            x[5] = 0
            x[5, n // 2] = -x[5, 0]
            x[6] = -x[5]
            x[7, 0], x[7, -1] = (np.inf, -np.inf) if T.kind == "f" else (5, -5)
            x[8] = -np.inf if T.kind == "f" else s[0]
            yield [x[:, :, None].copy(), *constants_list[0], Out((9, 1), dtype)]
            yield [x.T[None].copy(), *constants_list[0], Out((1, 9), dtype)]


for _name in REDUCTIONS:
    reduction_cases(_name)


@case("reduce_var", "far from zero")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for n, correction in ((1, 0), (2, 1), (100, 1), (1025, 0), (1, 1), (3, 3)):
        x = (draw.values(T, 5, n, 1) + 1000).astype(T)
        yield [x, correction, Out((5, 1))]
        yield [np.ascontiguousarray(x.swapaxes(0, 2)), correction, Out((1, 5))]


@case("reduce_logsumexp", "large")
def _(draw: Draw, T: np.dtype) -> Iterator[list[Any]]:
    for scale in (1.0, 30.0, 1e4):
        yield [(draw.values(T, 7, 33, 1) * scale).astype(T), Out((7, 1))]
        yield [(draw.values(T, 2, 33, 19) * scale + 500).astype(T), Out((2, 19))]
