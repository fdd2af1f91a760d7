"""Views and rearrangements: reshape, permute, expand, cat, stack, split, clone, cast. Views share memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastbp.dtypes import DType, as_dtype
from fastbp.function import Function, record
from fastbp.ops.common import (
    as_tensor_operand,
    backend_of,
    like,
    many_dims,
    new,
    one_dim,
    one_shape,
    shape_from,
    sum_to,
)
from fastbp.tensor import Tensor, contiguous

__all__ = [
    "cat",
    "chunk",
    "clone",
    "expand",
    "flatten",
    "movedim",
    "permute",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "t",
    "transpose",
    "unsqueeze",
]


class Reshape(Function):
    """The same elements in another shape."""

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return reshape(dy, ctx.input_shape(0))


class Permute(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return _permuted(dy, sorted(range(len(ctx.dims)), key=ctx.dims.__getitem__))


class Expand(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return sum_to(dy, ctx.input_shape(0))


class Clone(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return dy


class Cast(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return _cast(dy, ctx.dtype)


class Concatenate(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        return split(dy, ctx.lengths, ctx.dim)


def _shaped(x: Tensor, buffer: Any) -> Tensor:
    """x's elements in the shape of a buffer that has the same ones in the same order."""
    y = Tensor(buffer)
    record(Reshape, (x,), y)
    return y


def _permuted(x: Tensor, dims: Sequence[int]) -> Tensor:
    shape, strides = x.buffer.shape, x.buffer.strides
    y = Tensor(x.buffer.view([shape[d] for d in dims], [strides[d] for d in dims]))
    if node := record(Permute, (x,), y):
        node.dims = dims
    return y


def _cast(x: Tensor, dtype: DType) -> Tensor:
    y = new(x.shape, dtype)
    backend_of(x).cast(contiguous(x), y.buffer)
    if node := record(Cast, (x,), y):
        node.dtype = x.dtype
    return y


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order in another shape; one size may be −1. A view where x is contiguous."""
    return _shaped(x, contiguous(x).reshape(one_shape(shape)))


def view(x: Tensor, *shape: Any) -> Tensor:
    """As reshape, never copying. ValueError for a tensor that is not contiguous."""
    if not x.buffer.contiguous:
        raise ValueError("[view] expected a contiguous tensor; use reshape, which copies")
    return _shaped(x, contiguous(x).reshape(one_shape(shape)))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim .. end_dim made one."""
    start, end = one_dim(start_dim, x.ndim, "flatten"), one_dim(end_dim, x.ndim, "flatten")
    if start > end:
        raise ValueError(f"[flatten] expected start_dim ≤ end_dim, got {start_dim} and {end_dim}")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def permute(x: Tensor, *dims: Any) -> Tensor:
    """Dimensions in the order given; a view."""
    order = tuple(one_dim(d, x.ndim, "permute") for d in shape_from("permute", dims))
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"[permute] expected each of {x.ndim} dimensions once, got {dims}")
    return _permuted(x, order)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped; a view."""
    dims = list(range(x.ndim))
    if dims:
        a, b = one_dim(dim0, x.ndim, "transpose"), one_dim(dim1, x.ndim, "transpose")
        dims[a], dims[b] = dims[b], dims[a]
    return _permuted(x, dims)


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a view. ValueError for more than two dimensions."""
    if x.ndim > 2:
        raise ValueError(f"[t] expected at most two dimensions, got shape {x.shape}")
    return _permuted(x, range(x.ndim - 1, -1, -1))


def movedim(x: Tensor, source: int, destination: int) -> Tensor:
    """One dimension moved to another place; a view."""
    dims = list(range(x.ndim))
    dims.insert(one_dim(destination, x.ndim, "movedim"), dims.pop(one_dim(source, x.ndim, "movedim")))
    return _permuted(x, dims)


def expand(x: Tensor, *shape: Any) -> Tensor:
    """Dimensions of length 1 repeated, and leading ones added, without copying; −1 keeps a length."""
    y = Tensor(x.buffer.expand(one_shape(shape)))
    record(Expand, (x,), y)
    return y


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x expanded to the shape of another tensor."""
    return expand(x, other.shape)


def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of length 1 removed: all of them, or those named."""
    dims = many_dims(dim, x.ndim, "squeeze")
    kept = [d for d, n in enumerate(x.shape) if n != 1 or d not in dims]
    shape, strides = x.shape, x.stride()
    return _shaped(x, x.buffer.view([shape[d] for d in kept], [strides[d] for d in kept]))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """A dimension of length 1 inserted before `dim`."""
    at = one_dim(dim, x.ndim + 1, "unsqueeze")
    shape, strides = x.shape, x.stride()
    return _shaped(x, x.buffer.view((*shape[:at], 1, *shape[at:]), (*strides[:at], 1, *strides[at:])))


def clone(x: Tensor) -> Tensor:
    """A copy, through which gradients pass."""
    y = like(x)
    backend_of(x).copy(x.buffer, y.buffer)
    record(Clone, (x,), y)
    return y


def make_contiguous(x: Tensor) -> Tensor:
    """x itself when its elements lie in row-major order, else a copy."""
    return x if x.buffer.contiguous else clone(x)


def to(x: Tensor, *targets: Any, dtype: Any = None, device: Any = None, copy: bool = False) -> Tensor:
    """The tensor in another dtype, or on another device; x itself when nothing changes and no copy is asked for.

    ValueError for a device that is not there.
    """
    for target in targets:
        if isinstance(target, Tensor):
            dtype = target.dtype
        elif isinstance(target, str) and target.split(":")[0] in ("cpu", "cuda"):
            device = target
        elif isinstance(target, str) and target not in ("float32", "float64", "int64", "bool"):
            raise ValueError(f'[to] expected a dtype or device "cpu", got {target!r}')
        else:
            dtype = target
    if device is not None and str(device) != "cpu":
        raise ValueError(f'[to] expected device "cpu", got {device!r}')
    if dtype is not None and (wanted := as_dtype(dtype)) is not x.dtype:
        return _cast(x, wanted)
    return clone(x) if copy else x


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one dtype joined along an existing dimension."""
    xs = [as_tensor_operand(x, "cat") for x in tensors]
    if not xs:
        raise ValueError("[cat] expected at least one tensor, got none")
    at = one_dim(dim, xs[0].ndim, "cat")
    first = xs[0]
    for x in xs:
        if x.dtype is not first.dtype:
            raise TypeError(f"[cat] expected tensors of one dtype, got {first.dtype} and {x.dtype}")
        if x.ndim == 0 or x.shape[:at] + x.shape[at + 1 :] != first.shape[:at] + first.shape[at + 1 :]:
            raise ValueError(f"[cat] expected shapes equal outside of dim {dim}, got {first.shape} and {x.shape}")
    lengths = [x.shape[at] for x in xs]
    y = new((*first.shape[:at], sum(lengths), *first.shape[at + 1 :]), first.dtype)
    backend_of(first).concatenate([contiguous(x) for x in xs], at, y.buffer)
    if node := record(Concatenate, tuple(xs), y):
        node.dim, node.lengths = at, lengths
    return y


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape and dtype joined along a new dimension."""
    xs = [as_tensor_operand(x, "stack") for x in tensors]
    if not xs:
        raise ValueError("[stack] expected at least one tensor, got none")
    if any(x.shape != xs[0].shape for x in xs):
        raise ValueError(f"[stack] expected tensors of one shape, got {' and '.join(str(x.shape) for x in xs)}")
    return cat([unsqueeze(x, dim) for x in xs], one_dim(dim, xs[0].ndim + 1, "stack"))


def split(x: Tensor, lengths: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts along a dimension, as views: parts of one length (the last may be shorter), or as listed."""
    at = one_dim(dim, x.ndim, "split")
    total = x.shape[at] if x.ndim else 0
    if isinstance(lengths, int):
        if lengths < 1:
            raise ValueError(f"[split] expected parts of length ≥ 1, got {lengths}")
        lengths = [min(lengths, total - i) for i in range(0, total, lengths)] or [0]
    if sum(lengths) != total or min(lengths, default=0) < 0:
        raise ValueError(f"[split] expected lengths that sum to {total}, got {list(lengths)}")
    parts, start = [], 0
    for n in lengths:
        parts.append(x[(slice(None),) * at + (slice(start, start + n),)])
        start += n
    return tuple(parts)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` consecutive parts of equal length (the last may be shorter), as views."""
    if chunks < 1:
        raise ValueError(f"[chunk] expected at least one chunk, got {chunks}")
    return split(x, max(1, -(-x.shape[one_dim(dim, x.ndim, "chunk")] // chunks)), dim)
