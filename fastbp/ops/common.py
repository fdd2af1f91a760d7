"""What every family of operations uses: operands, result shapes, and the adjoint of broadcasting."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from fastbp.dtypes import FLOATING_CODES, DType, float32
from fastbp.from_data import tensor
from fastbp.kernels import of as backend_of  # noqa: F401  for the families
from fastbp.kernels.storage import empty
from fastbp.tensor import Tensor

NUMBERS = (float, int, bool)


def new(shape: tuple[int, ...], dtype: DType) -> Tensor:
    """An uninitialised tensor."""
    return Tensor(empty(shape, dtype.code))


def like(x: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of the shape and dtype of x."""
    return Tensor(x.buffer.empty_like())


def shaped(x: Any, shape: tuple[int, ...]) -> Any:
    """A tensor, or a contiguous buffer, in the shape that a kernel takes: mostly it has that already."""
    return x if x.shape == shape else x.reshape(shape)


def as_operand(x: Any, op: str) -> Any:
    """A tensor or a Python number; arrays and NumPy scalars are taken, anything else is a TypeError."""
    if isinstance(x, (Tensor, float, int)):
        return x
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, np.ndarray):
        return tensor(x)
    raise TypeError(f"[{op}] expected a tensor, an array or a number, got {type(x).__name__}")


def as_tensor_operand(x: Any, op: str) -> Tensor:
    """A tensor; TypeError for anything that is not one."""
    if not isinstance(x, Tensor):
        raise TypeError(f"[{op}] expected a tensor, got {type(x).__name__}")
    return x


def floating(x: Any, op: str) -> Tensor:
    """A tensor of floating dtype; integers and truth values become float32."""
    if isinstance(x, Tensor) and x.buffer.dtype in FLOATING_CODES:
        return x
    return as_tensor_operand(x, op).to(float32)


def number_of(
    value: Any,
    op: str,
    name: str,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    dtype: DType | None = None,
) -> float:
    """A finite number within bounds, also when it is rounded to a dtype, as the kernel does; it is returned rounded.

    TypeError for what is no number, ValueError out of bounds, for NaN and infinities.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"[{op}] expected {name} as a number, got {type(value).__name__}")
    held, where = float(value), ""
    for target in (None,) if dtype is None else (None, dtype):
        if target is not None:
            with np.errstate(over="ignore"):
                held, where = float(target.dtype.type(value)), f" in {target.name}"
        if not math.isfinite(held):
            raise ValueError(f"[{op}] expected {name} as a finite number{where}, got {value}")
        if above is not None and held <= above:
            raise ValueError(f"[{op}] expected {name} > {above}{where}, got {value}")
        if least is not None and held < least:
            raise ValueError(f"[{op}] expected {name} ≥ {least}{where}, got {value}")
        if most is not None and held > most:
            raise ValueError(f"[{op}] expected {name} ≤ {most}{where}, got {value}")
    return held


def broadcast_shape(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the shapes broadcast to, by NumPy's rule; ValueError where they do not."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    n = max(len(s) for s in shapes)
    result = [1] * n
    for s in shapes:
        for i, size in enumerate(s, n - len(s)):
            if size != 1:
                if result[i] not in (1, size):
                    raise ValueError(f"[{op}] expected shapes that broadcast, got {' and '.join(map(str, shapes))}")
                result[i] = size
    return tuple(result)


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums x over the dimensions along which `shape` was broadcast to x's shape: the adjoint of broadcasting."""
    if x.buffer.shape == shape:
        return x
    lead = x.ndim - len(shape)
    dims = [*range(lead), *(lead + d for d, n in enumerate(shape) if n == 1 and x.shape[lead + d] != 1)]
    return x.sum(dims).reshape(shape)


def one_dim(dim: int, ndim: int, op: str) -> int:
    """A dimension counted from 0; IndexError outside of −ndim .. ndim − 1."""
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise TypeError(f"[{op}] expected dim as an integer, got {type(dim).__name__}")
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise IndexError(f"[{op}] expected dim from {-max(ndim, 1)} to {max(ndim, 1) - 1}, got {dim}")
    return dim % max(ndim, 1)


def many_dims(dim: Any, ndim: int, op: str) -> tuple[int, ...]:
    """Dimensions counted from 0, ascending; None or () stands for all."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(ndim))
    dims = [one_dim(d, ndim, op) for d in ([dim] if isinstance(dim, int) else dim)]
    if len(set(dims)) != len(dims):
        raise ValueError(f"[{op}] expected each dim once, got {dim}")
    return tuple(sorted(dims)) if ndim else ()


def one_shape(sizes: tuple[Any, ...]) -> Any:
    """A shape given as separate integers or as one sequence, as it came: what takes it checks it."""
    return sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)) else sizes


def shape_from(op: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape given as separate integers or as one sequence; sizes may still be −1. TypeError where it is none."""
    try:
        if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
            sizes = tuple(sizes[0])
        return tuple([n if type(n) is int else operator.index(n) for n in sizes])
    except TypeError:
        raise TypeError(f"[{op}] expected a shape of integers, got {sizes}") from None


def sizes_from(op: str, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of a new tensor, as shape_from takes it; ValueError for sizes that no tensor can have."""
    shape = shape_from(op, sizes)
    if min(shape, default=0) < 0 or math.prod(shape) >= 2**59 or len(shape) > 8:
        raise ValueError(f"[{op}] expected at most 8 sizes ≥ 0 with fewer than 2^59 elements, got {shape}")
    return shape
