"""softmax and log_softmax of rows, with their derivatives. All tensors (rows, cols), evaluated in float64."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.facts import kernel
from fastbp.kernels.reference.elementwise import COSTLY


def log_softmax(x: np.ndarray) -> np.ndarray:
    """x − m − log Σ e^(x − m) in float64, with m = max of the row. A row that is all −inf, or has +inf, is all NaN."""
    x = x.astype(np.float64)
    shifted = x - np.max(x, axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    """e^(x − m)/Σ e^(x − m) in float64, with m = max of the row."""
    x = x.astype(np.float64)
    powers = np.exp(x - np.max(x, axis=1, keepdims=True, initial=-np.inf))
    return powers / np.sum(powers, axis=1, keepdims=True)


@kernel(inputs="x", outputs="y", partition="rows", operations=COSTLY)
def softmax_forward(x: np.ndarray, y: np.ndarray) -> None:
    """y_ij = e^x_ij / Σ_k e^x_ik, computed after taking away the maximum of the row."""
    y[...] = softmax(x)


@kernel(inputs="dy y", outputs="dx", partition="rows", operations=4)
def softmax_backward(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
    """dx_ij = y_ij·(dy_ij − Σ_k dy_ik·y_ik)."""
    dy, y = dy.astype(np.float64), y.astype(np.float64)
    dx[...] = y * (dy - np.sum(dy * y, axis=1, keepdims=True))


@kernel(inputs="x", outputs="y", partition="rows", operations=COSTLY)
def log_softmax_forward(x: np.ndarray, y: np.ndarray) -> None:
    """y_ij = x_ij − log Σ_k e^x_ik, computed after taking away the maximum of the row."""
    y[...] = log_softmax(x)


@kernel(inputs="dy y", outputs="dx", partition="rows", operations=COSTLY)
def log_softmax_backward(dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
    """dx_ij = dy_ij − e^y_ij·Σ_k dy_ik."""
    dx[...] = dy - np.exp(y.astype(np.float64)) * np.sum(dy, axis=1, keepdims=True, dtype=np.float64)
