"""Tensors from what the host holds: numbers, sequences and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.dtypes import BY_CODE, as_dtype, float32, for_array
from fastbp.kernels.storage import from_array
from fastbp.tensor import Tensor, copied

# The array types whose memory a tensor can share.
SHARED_TYPES = tuple(d.name for d in BY_CODE)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of the data: numbers, nested sequences, arrays or tensors.

    dtype: float32 for Python floats, int64 for integers, bool for truth values, an array's own type otherwise.
    Raises TypeError for other types, ValueError for ragged sequences.
    """
    if isinstance(data, Tensor):
        array = data._array()
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        array = _array_of(data)
    if dtype is not None:
        kind = as_dtype(dtype)
    elif isinstance(data, (Tensor, np.ndarray, np.generic)) or array.dtype != np.float64 or _holds_numpy(data):
        kind = for_array(array)
    else:
        kind = float32  # Python floats take the default type
    result = Tensor(copied(array.astype(kind.dtype, copy=False)))
    return result.requires_grad_() if requires_grad else result


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory. TypeError for dtypes other than float32, float64, int64, bool."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"[from_numpy] expected a NumPy array, got {type(array).__name__}")
    if array.dtype.name not in SHARED_TYPES:
        raise TypeError(
            f"[from_numpy] expected dtype {', '.join(SHARED_TYPES)}, got {array.dtype}; use fastbp.tensor, which copies"
        )
    return Tensor(from_array(array))


def _array_of(data: Any) -> np.ndarray:
    try:
        array = np.array(data)
    except (ValueError, TypeError) as e:
        raise ValueError(
            f"[tensor] expected numbers in sequences of equal lengths, got {type(data).__name__}: {e}"
        ) from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"[tensor] expected numbers, got {type(data).__name__} of {array.dtype}")
    return array


def _holds_numpy(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))
