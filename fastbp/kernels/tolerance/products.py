"""Rules of matrix products and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.kernels.tolerance.rules import DERIVATIVE_BOUND, LANES, exponent_error, roundings, rule, ulp


@rule("matmul")
def _(a: Any, b: Any, transpose_a: bool, transpose_b: bool, accumulate: bool, y: Any, expected: Any, eps: float) -> Any:
    a, b = (np.abs(m.swapaxes(-1, -2) if t else m) for m, t in ((a, transpose_a), (b, transpose_b)))
    bound = roundings(a.shape[-1], eps) * np.matmul(a, b).reshape(expected.shape)
    return bound + eps * np.abs(y) if accumulate else bound


@rule("linear_forward")
def _(x: Any, w: Any, b: Any, activation: Any, constant: float, output: str, expected: Any, eps: float) -> Any:
    size = np.abs(x) @ np.abs(w.T) + (0 if b is None else np.abs(b))
    bound = roundings(x.shape[1], eps) * size
    if activation is None or output == "z":
        return bound
    return max(DERIVATIVE_BOUND, abs(constant)) * bound + 4 * ulp(
        np.maximum(np.abs(expected), 2.0**-20 * size), expected.dtype
    )


@rule("linear_backward_input")
def _(dy: Any, w: Any, activation: Any, constant: float, s: Any, eps: float) -> Any:
    slope = 1 if activation is None else max(DERIVATIVE_BOUND, abs(constant))
    argument = eps * np.abs(constant * s) if activation == "sine" else 0.0  # which is rounded before it is taken
    return slope * (roundings(dy.shape[1], eps) + 5 * eps + argument) * (np.abs(dy) @ np.abs(w))


@rule("linear_backward_weight")
def _(dy: Any, x: Any, accumulate: bool, dw: Any, db: Any, output: str, eps: float) -> Any:
    total = np.abs(dy.T) @ np.abs(x) if output == "dw" else np.sum(np.abs(dy), axis=0)
    before = (dw if output == "dw" else db) if accumulate else np.float64(0)
    return roundings(dy.shape[0], eps) * total + eps * np.abs(before)


def middle(x: np.ndarray, eps: float) -> float:
    """Roundings of a sum over the middle axis: lanes where it is the last."""
    return roundings(x.shape[1], eps, LANES if x.shape[2] == 1 else 1)


@rule("reduce_sum")
def _(x: np.ndarray, eps: float) -> np.ndarray:
    return middle(x, eps) * np.sum(np.abs(x), axis=1)


@rule("reduce_mean")
def _(x: np.ndarray, eps: float) -> np.ndarray:
    return (middle(x, eps) + eps) * np.sum(np.abs(x), axis=1) / x.shape[1]


@rule("reduce_var")
def _(x: np.ndarray, correction: int, eps: float) -> np.ndarray:
    """An error d of the mean adds r·d² to the sum of squares; rounding of x − mean is relative."""
    r = x.shape[1]
    mean_error = (middle(x, eps) + eps) * np.sum(np.abs(x), axis=1) / r
    squares = np.sum(np.square(x - np.mean(x, axis=1, keepdims=True)), axis=1)
    return ((middle(x, eps) + 4 * eps) * squares + r * np.square(mean_error)) / max(r - correction, 0)


@rule("reduce_logsumexp")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    m = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    share = np.exp(x - m) / np.sum(np.exp(x - m), axis=1, keepdims=True)
    inner = np.sum(share * exponent_error(x, 1, eps, middle(x, eps)), axis=1)
    return inner + eps * (np.abs(m[:, 0]) + np.abs(expected))
