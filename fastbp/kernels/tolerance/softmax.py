"""Rules of softmax."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.tolerance.rules import LANES, exponent_error, roundings, rule


@rule("softmax_forward")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return exponent_error(x, 1, eps, roundings(x.shape[1], eps, LANES)) * expected


@rule("log_softmax_forward")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return exponent_error(x, 1, eps, roundings(x.shape[1], eps, LANES)) + eps * (np.abs(expected) + np.abs(x))


@rule("softmax_backward")
def _(dy: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    total = np.sum(np.abs(dy * y), axis=1, keepdims=True)
    return np.abs(y) * (4 * eps * np.abs(dy) + (roundings(y.shape[1], eps, LANES) + 4 * eps) * total)


@rule("log_softmax_backward")
def _(dy: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    total = np.sum(np.abs(dy), axis=1, keepdims=True)
    return 2 * eps * np.abs(dy) + (roundings(y.shape[1], eps, LANES) + 4 * eps) * np.exp(y) * total
