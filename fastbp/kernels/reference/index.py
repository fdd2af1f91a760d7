"""Kernels of integer indexing beside gather and its adjoint: writing rows, and reading negative indices."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.facts import kernel, size
from fastbp.kernels.reference.copy import ALL


@kernel(inputs="x index", inplace="y", partition="outputs", operations=lambda x, **_: size(x), dtypes=ALL)
def scatter(x: np.ndarray, index: np.ndarray, y: np.ndarray) -> None:
    """y[index[i]] = x[i] for i ascending, so of equal indices the last wins; x (index.size, inner), y (rows, inner)."""
    for i, row in enumerate(index.reshape(-1)):
        y[row] = x[i]


@kernel(inputs="index", outputs="y", dtypes="int64")
def wrap_index(index: np.ndarray, size: int, y: np.ndarray) -> None:
    """y = index counted from 0: index + size where it is negative; −size ≤ index < size."""
    if np.any((index < -size) | (index >= size)):
        raise IndexError(f"[wrap_index] expected indices from {-size} to {size - 1}")
    y[...] = np.where(index < 0, index + size, index)
