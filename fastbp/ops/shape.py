"""Views and rearrangements: reshape, permute, expand, cat, stack, split, clone, cast. Views share memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastbp.dtypes import DType, as_dtype
from fastbp.function import Function
from fastbp.ops.common import as_tensor_operand, backend_of, like, many_dims, new, one_dim, shape_from
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
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = x.shape
        return Tensor(contiguous(x).reshape(shape))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        return dy.reshape(ctx.shape), None


class Permute(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.dims = dims
        shape, strides = x.buffer.shape, x.buffer.strides
        return Tensor(x.buffer.view([shape[d] for d in dims], [strides[d] for d in dims]))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        inverse = sorted(range(len(ctx.dims)), key=ctx.dims.__getitem__)
        return permute(dy, inverse), None


class Expand(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = x.shape
        lead = len(shape) - x.ndim
        strides = [0] * lead + [0 if n == 1 else s for n, s in zip(x.buffer.shape, x.buffer.strides)]
        return Tensor(x.buffer.view(shape, strides))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        lead = dy.ndim - len(ctx.shape)
        dims = [*range(lead), *(lead + d for d, n in enumerate(ctx.shape) if n == 1 and dy.shape[lead + d] != 1)]
        return (dy.sum(dims) if dims else dy).reshape(ctx.shape), None


class Restride(Function):
    """A view with dimensions of length 1 added or removed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        ctx.shape = x.shape
        return Tensor(x.buffer.view(shape, strides))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None, None]:
        return dy.reshape(ctx.shape), None, None


class Clone(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = like(x)
        backend_of(x).copy(x.buffer, y.buffer)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return dy


class Cast(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: DType) -> Tensor:
        ctx.dtype = x.dtype
        y = new(x.shape, dtype)
        backend_of(x).cast(contiguous(x), y.buffer)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        return dy.to(ctx.dtype), None


class Concatenate(Function):
    @staticmethod
    def forward(ctx: Any, dim: int, *xs: Tensor) -> Tensor:
        ctx.dim = dim
        ctx.lengths = [x.shape[dim] for x in xs]
        shape = list(xs[0].shape)
        shape[dim] = sum(ctx.lengths)
        y = new(tuple(shape), xs[0].dtype)
        backend_of(xs[0]).concatenate([contiguous(x) for x in xs], dim, y.buffer)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        return None, *split(dy, ctx.lengths, ctx.dim)


def _completed(x: Tensor, shape: tuple[int, ...], op: str) -> tuple[int, ...]:
    """The shape with a size of −1 found from the others; ValueError when x's elements do not fit."""
    found = shape
    if shape.count(-1) == 1:
        known = -math.prod(shape)
        found = tuple([x.numel() // known if n == -1 else n for n in shape]) if known else shape
    if min(found, default=0) < 0 or math.prod(found) != x.numel():
        raise ValueError(f"[{op}] expected a shape for {x.numel()} elements, got {shape}")
    return found


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order in another shape; one size may be −1. A view where x is contiguous."""
    return Reshape.apply(x, _completed(x, shape_from("reshape", shape), "reshape"))


def view(x: Tensor, *shape: Any) -> Tensor:
    """As reshape, never copying. ValueError for a tensor that is not contiguous."""
    if not x.buffer.contiguous:
        raise ValueError("[view] expected a contiguous tensor; use reshape, which copies")
    return Reshape.apply(x, _completed(x, shape_from("view", shape), "view"))


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
    return Permute.apply(x, order)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped; a view."""
    dims = list(range(x.ndim))
    if dims:
        a, b = one_dim(dim0, x.ndim, "transpose"), one_dim(dim1, x.ndim, "transpose")
        dims[a], dims[b] = dims[b], dims[a]
    return Permute.apply(x, tuple(dims))


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; a view. ValueError for more than two dimensions."""
    if x.ndim > 2:
        raise ValueError(f"[t] expected at most two dimensions, got shape {x.shape}")
    return Permute.apply(x, tuple(reversed(range(x.ndim))))


def movedim(x: Tensor, source: int, destination: int) -> Tensor:
    """One dimension moved to another place; a view."""
    dims = list(range(x.ndim))
    dims.insert(one_dim(destination, x.ndim, "movedim"), dims.pop(one_dim(source, x.ndim, "movedim")))
    return Permute.apply(x, tuple(dims))


def expand(x: Tensor, *shape: Any) -> Tensor:
    """Dimensions of length 1 repeated, and leading ones added, without copying; −1 keeps a length."""
    sizes = shape_from("expand", shape)
    lead = len(sizes) - x.ndim
    if lead < 0:
        raise ValueError(f"[expand] expected at least {x.ndim} sizes, got {sizes}")
    result = list(sizes)
    for d, n in enumerate(x.shape):
        if result[lead + d] == -1:
            result[lead + d] = n
        elif n not in (1, result[lead + d]):
            raise ValueError(f"[expand] expected sizes that {x.shape} expands to, got {sizes}")
    if min(result, default=0) < 0:
        raise ValueError(f"[expand] expected sizes ≥ 0, got {sizes}")
    return Expand.apply(x, tuple(result))


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x expanded to the shape of another tensor."""
    return expand(x, other.shape)


def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of length 1 removed: all of them, or those named."""
    dims = many_dims(dim, x.ndim, "squeeze")
    kept = [d for d, n in enumerate(x.shape) if n != 1 or d not in dims]
    shape, strides = x.shape, x.stride()
    return Restride.apply(x, tuple([shape[d] for d in kept]), tuple([strides[d] for d in kept]))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """A dimension of length 1 inserted before `dim`."""
    at = one_dim(dim, x.ndim + 1, "unsqueeze")
    shape, strides = x.shape, x.stride()
    return Restride.apply(x, (*shape[:at], 1, *shape[at:]), (*strides[:at], 1, *strides[at:]))


def clone(x: Tensor) -> Tensor:
    """A copy, through which gradients pass."""
    return Clone.apply(x)


def make_contiguous(x: Tensor) -> Tensor:
    """x itself when its elements lie in row-major order, else a copy."""
    return x if x.buffer.contiguous else Clone.apply(x)


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
        return Cast.apply(x, wanted)
    return Clone.apply(x) if copy else x


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
    return Concatenate.apply(at, *xs)


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
