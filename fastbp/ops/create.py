"""Tensors from nothing or from other libraries: constants, ranges, shared memory."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from fastbp import dtypes, kernels
from fastbp.dtypes import DType, as_dtype, float32, int64
from fastbp.from_data import SHARED_TYPES, from_numpy, tensor
from fastbp.kernels.storage import from_dlpack as buffer_from_dlpack
from fastbp.ops.common import new, sizes_from
from fastbp.tensor import Tensor, filled

__all__ = [
    "arange",
    "as_tensor",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def _finish(x: Tensor, requires_grad: builtins.bool) -> Tensor:
    return x.requires_grad_() if requires_grad else x


def _kind(dtype: Any) -> DType:
    return float32 if dtype is None else as_dtype(dtype)


def empty(*shape: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """An uninitialised tensor."""
    return _finish(new(sizes_from("empty", shape), _kind(dtype)), requires_grad)


def zeros(*shape: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of zeros."""
    return _finish(filled(sizes_from("zeros", shape), 0, _kind(dtype)), requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of ones."""
    return _finish(filled(sizes_from("ones", shape), 1, _kind(dtype)), requires_grad)


def full(shape: Any, fill_value: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor with every element equal to fill_value, whose type it takes unless dtype is given."""
    if dtype is None:
        dtype = (
            dtypes.bool if isinstance(fill_value, builtins.bool) else int64 if isinstance(fill_value, int) else float32
        )
    return _finish(filled(sizes_from("full", (shape,)), fill_value, as_dtype(dtype)), requires_grad)


def zeros_like(x: Tensor, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """Zeros of the shape and dtype of x."""
    return zeros(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def ones_like(x: Tensor, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """Ones of the shape and dtype of x."""
    return ones(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def empty_like(x: Tensor, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """An uninitialised tensor of the shape and dtype of x."""
    return empty(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad)


def full_like(x: Tensor, fill_value: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of the shape and dtype of x with every element equal to fill_value."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype, requires_grad=requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below end (above it for a negative step); from 0 when only one bound is given.

    int64 for integers, float32 otherwise, unless dtype is given. ValueError for step 0.
    """
    if end is None:
        start, end = 0, start
    if step == 0:
        raise ValueError("[arange] expected a step other than 0")
    integers = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    kind = as_dtype(dtype) if dtype is not None else int64 if integers else float32
    length = (end - start) / step
    if not length < 2**59:
        raise ValueError(f"[arange] expected fewer than 2^59 steps, got {start} to {end} by {step}")
    y = new((max(0, math.ceil(length)),), kind)
    kernels.host().arange(start, step, y.buffer)
    return y


def linspace(start: float, end: float, steps: int, dtype: Any = None) -> Tensor:
    """`steps` evenly spaced values from start to end, both included."""
    return tensor(np.linspace(start, end, steps), dtype=_kind(dtype))


def eye(n: int, m: int | None = None, dtype: Any = None) -> Tensor:
    """A matrix (n, m) with ones on the diagonal, zeros elsewhere."""
    sizes_from("eye", (n, n if m is None else m))
    return tensor(np.eye(n, m), dtype=_kind(dtype))


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """The data as a tensor, sharing memory where it can (tensors, NumPy arrays, DLPack), else copied."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and data.dtype.name in SHARED_TYPES:
        shared = from_numpy(data)
        return shared if dtype is None else shared.to(dtype)
    if not isinstance(data, np.ndarray) and hasattr(data, "__dlpack__"):
        shared = from_dlpack(data)
        return shared if dtype is None else shared.to(dtype)
    return tensor(data, dtype=dtype)


def from_dlpack(data: Any) -> Tensor:
    """A tensor that shares the memory of any object with __dlpack__ on the host."""
    if not hasattr(data, "__dlpack__"):
        raise TypeError(f"[from_dlpack] expected an object with __dlpack__, got {type(data).__name__}")
    if next(iter(data.__dlpack_device__())) != 1:
        raise ValueError(f"[from_dlpack] expected memory on the host, got device {data.__dlpack_device__()}")
    return Tensor(buffer_from_dlpack(data))
