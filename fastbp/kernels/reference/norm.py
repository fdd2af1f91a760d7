"""Normalisation of a matrix (rows, cols): layer norm and RMS norm over its rows, batch norm over its columns.

With μ and r = 1/√(Σ(x − μ)²/n + ε) of n terms, y = (x − μ)·r·w + b, where w and b (cols,) may be absent. Evaluated in
float64, the mean first and then the squares of what lies beside it, both corrected by the sum of what lies beside it
(Chan, Golub and LeVeque, 1983); statistics of no terms are NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.kernels.facts import kernel


def wide(*operands: Any) -> Any:
    """The operands in float64, those that are absent as None."""
    return [None if x is None else x.astype(np.float64) for x in operands]


def statistics(x: np.ndarray, axis: int, centered: bool = True) -> tuple[Any, Any]:
    """(mean, sum of the squares about it) along an axis; about 0 if not centered."""
    if not centered:
        return np.float64(0), np.sum(np.square(x), axis=axis, keepdims=True)
    n = np.float64(x.shape[axis])
    mean = np.sum(x, axis=axis, keepdims=True) / n
    d = x - mean
    error = np.sum(d, axis=axis, keepdims=True) / n
    error[~np.isfinite(error)] = 0  # an infinite mean stays
    squares = np.sum(np.square(d), axis=axis, keepdims=True) - n * np.square(error)
    return mean + error, np.maximum(squares, 0)


def affine(normal: np.ndarray, w: np.ndarray | None, b: np.ndarray | None) -> np.ndarray:
    """normal·w + b."""
    normal = normal if w is None else normal * w
    return normal if b is None else normal + b


def column(x: np.ndarray | None) -> Any:
    """One number for each row, or 0 for all."""
    return np.float64(0) if x is None else x[:, None]


@kernel(
    inputs="x w? b?",
    outputs="mean? rstd y",
    whole="w b",
    partition="rows",
    operations=lambda x, **_: 8 * x.size,
)
def row_norm_forward(
    x: np.ndarray,
    w: np.ndarray | None,
    b: np.ndarray | None,
    epsilon: float,
    mean: np.ndarray | None,
    rstd: np.ndarray,
    y: np.ndarray,
) -> None:
    """y_ij = (x_ij − μ_i)·r_i·w_j + b_j, mean = μ and rstd = r (rows,): layer norm (Ba, Kiros and Hinton, 2016).
    Without mean, μ is 0: RMS norm (Zhang and Sennrich, 2019)."""
    x, w, b = wide(x, w, b)
    center, squares = statistics(x, 1, mean is not None)
    scale = 1 / np.sqrt(squares / np.float64(x.shape[1]) + epsilon)
    if mean is not None:
        mean[...] = center[:, 0]
    rstd[...] = scale[:, 0]
    y[...] = affine((x - center) * scale, w, b)


@kernel(
    inputs="dy x w? mean? rstd",
    outputs="dx",
    whole="w",
    partition="rows",
    operations=lambda x, **_: 12 * x.size,
)
def row_norm_backward_input(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray | None,
    mean: np.ndarray | None,
    rstd: np.ndarray,
    dx: np.ndarray,
) -> None:
    """dx_ij = r_i·(g_ij − Σ_k g_ik/cols − d_ij·r_i²·Σ_k g_ik·d_ik/cols) with g = dy·w and d = x − μ. Without mean, Σ g
    is left out too."""
    dy, x, w, mean, rstd = wide(dy, x, w, mean, rstd)
    g, d, scale, n = affine(dy, w, None), x - column(mean), column(rstd), np.float64(x.shape[1])
    shift = 0 if mean is None else np.sum(g, axis=1, keepdims=True) / n
    dx[...] = scale * (g - shift - d * np.square(scale) * np.sum(g * d, axis=1, keepdims=True) / n)


@kernel(
    inputs="dy x mean? rstd",
    outputs="dw db?",
    whole="mean rstd",
    partition="columns",
    operations=lambda x, **_: 5 * x.size,
)
def row_norm_backward_weight(
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray | None,
    rstd: np.ndarray,
    accumulate: bool,
    dw: np.ndarray,
    db: np.ndarray | None,
) -> None:
    """dw_j (+)= Σ_i dy_ij·(x_ij − μ_i)·r_i, db_j (+)= Σ_i dy_ij."""
    normal = np.subtract(x, column(mean), dtype=np.float64) * column(rstd)
    for y, terms in ((dw, dy * normal), (db, dy)):
        if y is not None:
            total = np.sum(terms, axis=0, dtype=np.float64).astype(y.dtype)
            y[...] = y + total if accumulate else total


@kernel(
    inputs="x w? b? batches?",
    inplace="running_mean? running_var?",
    outputs="y mean rstd",
    whole="batches",
    partition="columns",
    operations=lambda x, **_: 8 * x.size,
)
def batch_norm_forward(
    x: np.ndarray,
    w: np.ndarray | None,
    b: np.ndarray | None,
    batches: np.ndarray | None,
    epsilon: float,
    momentum: float,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    y: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
) -> None:
    """y_ij = (x_ij − μ_j)·r_j·w_j + b_j, mean = μ and rstd = r (cols,): batch norm (Ioffe and Szegedy, 2015). With
    s = 1/batches where that int64 tensor of one element is given, else momentum:

        running_mean ← (1 − s)·running_mean + s·μ,   running_var ← (1 − s)·running_var + s·Σ(x − μ)²/(rows − 1)
    """
    T, rows = y.dtype.type, x.shape[0]
    x, w, b = wide(x, w, b)
    center, squares = statistics(x, 0)
    scale = 1 / np.sqrt(squares / np.float64(rows) + epsilon)
    mean[...], rstd[...] = center[0], scale[0]
    y[...] = affine((x - center) * scale, w, b)
    share = momentum if batches is None else 1 / np.float64(batches.reshape(())[()])
    for running, now in ((running_mean, center), (running_var, squares / np.float64(max(rows - 1, 0)))):
        if running is not None:
            running[...] = np.float64(T(1 - share)) * running + np.float64(T(share)) * now[0]


@kernel(
    inputs="x mean? variance w? b?",
    outputs="y",
    whole="mean variance w b",
    partition="rows",
    operations=lambda x, **_: 3 * x.size,
)
def batch_norm_apply(
    x: np.ndarray,
    mean: np.ndarray | None,
    variance: np.ndarray,
    w: np.ndarray | None,
    b: np.ndarray | None,
    epsilon: float,
    y: np.ndarray,
) -> None:
    """y_ij = (x_ij − mean_j)/√(variance_j + ε)·w_j + b_j: batch norm with given statistics (cols,). Without mean it is
    0."""
    x, mean, variance, w, b = wide(x, mean, variance, w, b)
    y[...] = affine((x if mean is None else x - mean) / np.sqrt(variance + epsilon), w, b)


@kernel(
    inputs="dy x w? mean rstd",
    outputs="dx? dw db",
    partition="columns",
    operations=lambda x, **_: 10 * x.size,
)
def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray | None,
    mean: np.ndarray,
    rstd: np.ndarray,
    dx: np.ndarray | None,
    dw: np.ndarray,
    db: np.ndarray,
) -> None:
    """dw_j = Σ_i dy_ij·d_ij·r_j, db_j = Σ_i dy_ij with d = x − μ, and the gradient through the statistics:

    dx_ij = w_j·r_j·(dy_ij − db_j/rows − d_ij·r_j·dw_j/rows)
    """
    dy, x, w, mean, rstd = wide(dy, x, w, mean, rstd)
    normal, rows = (x - mean) * rstd, np.float64(x.shape[0])
    weight, bias = np.sum(dy * normal, axis=0), np.sum(dy, axis=0)
    dw[...], db[...] = weight, bias
    if dx is not None:
        dx[...] = affine(rstd * (dy - bias / rows - normal * weight / rows), w, None)
