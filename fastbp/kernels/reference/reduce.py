"""Reductions of the middle axis: x (outer, r, inner) → y (outer, inner).

Sums are evaluated in float64 and rounded once to the type of the output. An empty sum is +0; maxima and minima need
at least one term.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastbp.kernels.facts import kernel, size

FLOATS = "float32 float64"
NUMBERS = FLOATS + " int64"


def over_inputs(operations: int = 1) -> Callable[..., int]:
    """Operations counted by the elements that are read."""
    return lambda x, **_: operations * size(x)


def total(x: np.ndarray, axis: int = 1, keepdims: bool = False) -> np.ndarray:
    """Sum in float64 from +0, so that a sum of −0 is +0; of int64 in int64, wrapping."""
    wide = np.int64 if x.dtype == np.int64 else np.float64
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims, dtype=wide) + 0)


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(), dtypes=NUMBERS)
def reduce_sum(x: np.ndarray, y: np.ndarray) -> None:
    """y = Σ x over the middle axis; int64 wraps."""
    y[...] = total(x)


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs())
def reduce_mean(x: np.ndarray, y: np.ndarray) -> None:
    """y = (Σ x)/r over the middle axis; NaN where r = 0."""
    y[...] = total(x) / np.float64(x.shape[1])


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(), dtypes=NUMBERS)
def reduce_max(x: np.ndarray, y: np.ndarray) -> None:
    """y = max x over the middle axis, NaN wins, +0 above −0."""
    largest = np.max(x, axis=1)
    plus_zero = np.any((x == 0) & ~np.signbit(x), axis=1)
    y[...] = np.where((largest == 0) & plus_zero, np.zeros_like(largest), largest)


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(), dtypes=NUMBERS)
def reduce_min(x: np.ndarray, y: np.ndarray) -> None:
    """y = min x over the middle axis, NaN wins, −0 below +0."""
    smallest = np.min(x, axis=1)
    minus_zero = np.any((x == 0) & np.signbit(x), axis=1)
    y[...] = np.where((smallest == 0) & minus_zero, -np.zeros_like(smallest), smallest)


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(4))
def reduce_var(x: np.ndarray, correction: int, y: np.ndarray) -> None:
    """y = Σ (x − mean)²/max(r − correction, 0) over the middle axis, in two passes: the mean, then the squares."""
    r = np.float64(x.shape[1])
    mean = total(x, keepdims=True) / r
    y[...] = total(np.square(x - mean)) / np.maximum(r - correction, 0)


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(16))
def reduce_logsumexp(x: np.ndarray, y: np.ndarray) -> None:
    """y = log Σ e^x over the middle axis, as m + log Σ e^(x − m) with m = max x; m itself where m is infinite."""
    m = np.max(x.astype(np.float64), axis=1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isinf(m), 0, m)
    y[...] = np.where(np.isinf(m), m, shift + np.log(total(np.exp(x - shift), keepdims=True)))[:, 0]


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(), dtypes=NUMBERS)
def argmax(x: np.ndarray, y: np.ndarray) -> None:
    """y int64 = the first place of the maximum on the middle axis; the first NaN wins; −0 and +0 are equal."""
    y[...] = np.argmax(x, axis=1)


@kernel(inputs="x", outputs="y", partition="outputs", operations=over_inputs(), dtypes=NUMBERS)
def argmin(x: np.ndarray, y: np.ndarray) -> None:
    """y int64 = the first place of the minimum on the middle axis; the first NaN wins; −0 and +0 are equal."""
    y[...] = np.argmin(x, axis=1)
