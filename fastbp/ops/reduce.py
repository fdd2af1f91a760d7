"""Reductions over any dimensions. The kernels see (outer, r, inner); other arrangements are copied into that first."""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

from fastbp import dtypes
from fastbp.dtypes import FLOATING_CODES, as_dtype, int64
from fastbp.function import Function, record
from fastbp.kernels.storage import empty
from fastbp.ops.binary import eq, where
from fastbp.ops.common import as_tensor_operand, backend_of, floating, many_dims, one_dim
from fastbp.ops.shape import expand, reshape
from fastbp.ops.unary import abs as absolute
from fastbp.ops.unary import exp, sqrt, square
from fastbp.tensor import Tensor, contiguous

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "std",
    "sum",
    "var",
]


class Extremum(NamedTuple):
    """What max(dim) and min(dim) return."""

    values: Tensor
    indices: Tensor


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the reduced dimensions as 1."""
    return tuple([1 if d in dims else n for d, n in enumerate(shape)])


def _blocks(x: Tensor, dims: tuple[int, ...]) -> Any:
    """x's elements as a buffer (outer, r, inner) with r over `dims`."""
    shape = x.shape
    if dims and dims != tuple(range(dims[0], dims[-1] + 1)):
        order = [*(d for d in range(x.ndim) if d not in dims), *dims]
        x = Tensor(x.buffer.view([shape[d] for d in order], [x.buffer.strides[d] for d in order]))
        dims = tuple(range(x.ndim - len(dims), x.ndim))
        shape = x.shape
    first, last = (dims[0], dims[-1] + 1) if dims else (x.ndim, x.ndim)
    outer, r, inner = math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])
    return contiguous(x).reshape((outer, r, inner))


def _reduce(kernel: str, x: Tensor, dims: tuple[int, ...], keepdim: bool, code: int, *constants: Any) -> Tensor:
    """Runs a reduction kernel; code: the dtype of the result."""
    ndim = x.buffer.ndim
    if len(dims) == ndim:  # over everything, the usual case
        blocks, y = contiguous(x).reshape((1, -1, 1)), empty((1, 1), code)
        shape = (1,) * ndim if keepdim else ()
    else:
        blocks = _blocks(x, dims)
        outer, _, inner = blocks.shape
        y = empty((outer, inner), code)
        shape = _kept(x.shape, dims) if keepdim else tuple([n for d, n in enumerate(x.shape) if d not in dims])
    getattr(backend_of(x), kernel)(blocks, *constants, y)
    return Tensor(y.reshape(shape))


def _record(function: type[Function], x: Tensor, dims: tuple[int, ...], keepdim: bool, y: Tensor) -> Any:
    node = record(function, (x,), y)
    if node:
        node.dims, node.keepdim = dims, keepdim
    return node


def _widened(ctx: Any, y: Tensor) -> Tensor:
    """The result of a reduction, or its gradient, in a shape that broadcasts to that of x."""
    shape = ctx.input_shape(0)
    if ctx.keepdim or len(ctx.dims) == len(shape):
        return y
    return reshape(y, _kept(shape, ctx.dims))


class Sum(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return expand(_widened(ctx, dy), ctx.input_shape(0))


class Mean(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        shape = ctx.input_shape(0)
        count = math.prod([shape[d] for d in ctx.dims])
        return expand(_widened(ctx, dy / count), shape)


class Max(Function):
    """Entries equal to the extremum share the gradient equally."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        chosen = eq(x, _widened(ctx, y))
        count = sum(chosen, ctx.dims, keepdim=True).to(dy.dtype)
        return where(chosen, _widened(ctx, dy) / count, 0.0)


class Var(Function):
    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        scale = 2 / ctx.divisor if ctx.divisor else math.inf
        return _widened(ctx, dy) * scale * (x - mean(x, ctx.dims, keepdim=True))


class LogSumExp(Function):
    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return _widened(ctx, dy) * exp(x - _widened(ctx, y))


def sum(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The sum over dimensions (all of them by default); integers and truth values sum as int64."""
    x = as_tensor_operand(x, "sum")
    if dtype is not None:
        x = x.to(as_dtype(dtype))
    elif x.buffer.dtype == dtypes.bool.code:
        x = x.to(int64)
    dims = many_dims(dim, x.buffer.ndim, "sum")
    y = _reduce("reduce_sum", x, dims, keepdim, x.buffer.dtype)
    _record(Sum, x, dims, keepdim, y)
    return y


def mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The mean over dimensions (all of them by default). TypeError for integers."""
    x = as_tensor_operand(x, "mean")
    if x.buffer.dtype not in FLOATING_CODES:
        raise TypeError(f"[mean] expected a tensor of floating dtype, got {x.dtype}; use x.float().mean()")
    dims = many_dims(dim, x.buffer.ndim, "mean")
    y = _reduce("reduce_mean", x, dims, keepdim, x.buffer.dtype)
    _record(Mean, x, dims, keepdim, y)
    return y


def var(x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False, unbiased: bool | None = None) -> Tensor:
    """The variance over dimensions: Σ(x − mean)²/(r − correction)."""
    x = floating(x, "var")
    correction = int(correction if unbiased is None else unbiased)
    dims = many_dims(dim, x.ndim, "var")
    y = _reduce("reduce_var", x, dims, keepdim, x.buffer.dtype, correction)
    if node := _record(Var, x, dims, keepdim, y):
        node.divisor = builtins.max(math.prod([x.shape[d] for d in dims]) - correction, 0)
        node.save_for_backward(x)
    return y


def std(x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False, unbiased: bool | None = None) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(x, dim, correction, keepdim, unbiased))


def logsumexp(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over dimensions, without overflow."""
    x = floating(x, "logsumexp")
    dims = many_dims(dim, x.ndim, "logsumexp")
    y = _reduce("reduce_logsumexp", x, dims, keepdim, x.buffer.dtype)
    if node := _record(LogSumExp, x, dims, keepdim, y):
        node.save_for_backward(x, y)
    return y


def _refuse_empty(x: Tensor, dims: tuple[int, ...], op: str) -> None:
    if math.prod([x.shape[d] for d in dims]) == 0:
        raise ValueError(f"[{op}] expected at least one element to reduce, got shape {x.shape}")


def _extreme(x: Tensor, dim: Any, keepdim: bool, op: str, kernel: str) -> Tensor:
    x = as_tensor_operand(x, op)
    x = x.to(int64) if x.dtype is dtypes.bool else x
    dims = many_dims(dim, x.ndim, op)
    _refuse_empty(x, dims, op)
    y = _reduce(kernel, x, dims, keepdim, x.buffer.dtype)
    if node := _record(Max, x, dims, keepdim, y):
        node.operation = op
        node.save_for_backward(x, y)
    return y


def amax(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest element over dimensions; NaN wins; equal ones share the gradient."""
    return _extreme(x, dim, keepdim, "amax", "reduce_max")


def amin(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest element over dimensions; NaN wins; equal ones share the gradient."""
    return _extreme(x, dim, keepdim, "amin", "reduce_min")


def _arg(x: Tensor, dim: int | None, keepdim: bool, op: str) -> Tensor:
    x = as_tensor_operand(x, op)
    x = x.to(int64) if x.dtype is dtypes.bool else x
    dims = many_dims(None if dim is None else one_dim(dim, x.ndim, op), x.ndim, op)
    _refuse_empty(x, dims, op)
    return _reduce(op, x, dims, keepdim, int64.code)


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the largest element, the first of equals, along `dim` or in the flattened tensor."""
    return _arg(x, dim, keepdim, "argmax")


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the smallest element, the first of equals, along `dim` or in the flattened tensor."""
    return _arg(x, dim, keepdim, "argmin")


def _extremum(x: Tensor, dim: int, keepdim: bool, op: str) -> Extremum:
    at = one_dim(dim, x.ndim, op)
    indices = _arg(x, at, True, "arg" + op)
    values = x.gather(at, indices) if x.ndim else x
    if not keepdim:
        values, indices = (reshape(t, x.shape[:at] + x.shape[at + 1 :]) for t in (values, indices))
    if values is not x and (node := values._node) is not None:
        node.operation, node.dim = op, at  # what a picture calls it
    return Extremum(values, indices)


def max(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; along `dim`, (values, indices); against another tensor, element by element."""
    if isinstance(dim, Tensor):
        return x.maximum(dim)
    return amax(x) if dim is None else _extremum(x, dim, keepdim, "max")


def min(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; along `dim`, (values, indices); against another tensor, element by element."""
    if isinstance(dim, Tensor):
        return x.minimum(dim)
    return amin(x) if dim is None else _extremum(x, dim, keepdim, "min")


def any(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether any element is true."""
    return sum(x.to(dtypes.bool), dim, keepdim) > 0


def all(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are true."""
    return sum(~x.to(dtypes.bool), dim, keepdim) == 0


def norm(x: Tensor, p: float = 2.0, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The p-norm (Σ|x|ᵖ)^(1/p) over dimensions, p > 0, ∞ too: max |x|. ValueError for other p."""
    x = floating(x, "norm")
    if not p > 0:
        raise ValueError(f"[norm] expected p > 0, got {p}")
    if p == 2:
        return sqrt(sum(square(x), dim, keepdim))
    if p == math.inf:
        return amax(absolute(x), dim, keepdim)
    if p == 1:
        return sum(absolute(x), dim, keepdim)
    return sum(absolute(x) ** p, dim, keepdim) ** (1 / p)
