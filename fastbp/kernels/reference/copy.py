"""Kernels that move values: copies, casts, fills, concatenation, gather and its adjoint, accumulation."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.facts import kernel, size

FLOATS = "float32 float64"
NUMBERS = FLOATS + " int64"
ALL = NUMBERS + " bool"


@kernel(inputs="x", outputs="y", dtypes=ALL)
def copy(x: np.ndarray, y: np.ndarray) -> None:
    """y = x, same shape and type; both may be strided, x with strides of 0."""
    y[...] = x


@kernel(inputs="x", outputs="y", dtypes=ALL)
def cast(x: np.ndarray, y: np.ndarray) -> None:
    """y = x in the type of y, same size. float → int64 cuts towards zero; NaN and what is out of range become −2^63;
    → bool is x ≠ 0."""
    if x.dtype.kind == "f" and y.dtype.kind == "i":
        in_range = (x >= -(2.0**63)) & (x < 2.0**63)
        x = np.where(in_range, np.where(in_range, x, 0).astype(np.int64), np.iinfo(np.int64).min)
    y[...] = x.reshape(y.shape)


@kernel(outputs="y", dtypes=ALL)
def fill(value: float, y: np.ndarray) -> None:
    """y = value everywhere; y may be strided."""
    y[...] = value


@kernel(inputs="xs*", outputs="y", dtypes=ALL)
def concatenate(xs: list[np.ndarray], axis: int, y: np.ndarray) -> None:
    """y = the tensors xs one after the other along axis; all other sizes equal."""
    y[...] = np.concatenate(xs, axis)


@kernel(inputs="x index", outputs="y", whole="x", partition="rows", dtypes=ALL)
def gather(x: np.ndarray, index: np.ndarray, y: np.ndarray) -> None:
    """y[i] = x[index[i]]: x (rows, inner), index int64 of any shape with values in [0, rows), y (index.size, inner)."""
    y[...] = x[index.reshape(-1)]


@kernel(inputs="dy index", inplace="dx", partition="outputs", operations=lambda dy, **_: size(dy), dtypes=NUMBERS)
def scatter_add(dy: np.ndarray, index: np.ndarray, dx: np.ndarray) -> None:
    """dx[index[i]] += dy[i] for i ascending: the adjoint of gather; dy (index.size, inner), dx (rows, inner)."""
    np.add.at(dx, index.reshape(-1), dy)


@kernel(inputs="x", inplace="y", dtypes=NUMBERS)
def accumulate(x: np.ndarray, y: np.ndarray) -> None:
    """y += x, same shape."""
    y += x


@kernel(outputs="y", dtypes=NUMBERS)
def arange(start: float, step: float, y: np.ndarray) -> None:
    """y[i] = start + i·step, evaluated in float64 (int64 in int64) and rounded once; y (n,)."""
    wide = np.int64 if y.dtype == np.int64 else np.float64
    y[...] = wide(start) + np.arange(y.size).astype(wide) * wide(step)
