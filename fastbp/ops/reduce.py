"""Reductions over any dimensions. The kernels see (outer, r, inner); other arrangements are copied into that first."""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

from fastbp import dtypes
from fastbp.dtypes import DType, as_dtype, int64
from fastbp.function import Function
from fastbp.ops.binary import eq, where
from fastbp.ops.common import as_tensor_operand, backend_of, floating, many_dims, new, one_dim
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


def _blocks(x: Tensor, dims: tuple[int, ...]) -> tuple[Any, int]:
    """x's elements as a buffer (outer, r, inner) with r over `dims`, and outer·inner."""
    shape = x.shape
    if dims and dims != tuple(range(dims[0], dims[-1] + 1)):
        order = [*(d for d in range(x.ndim) if d not in dims), *dims]
        x = Tensor(x.buffer.view([shape[d] for d in order], [x.buffer.strides[d] for d in order]))
        dims = tuple(range(x.ndim - len(dims), x.ndim))
        shape = x.shape
    first, last = (dims[0], dims[-1] + 1) if dims else (x.ndim, x.ndim)
    outer, r, inner = math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])
    return contiguous(x).reshape((outer, r, inner)), outer * inner


def _reduce(name: str, x: Tensor, dims: tuple[int, ...], dtype: DType, *constants: Any) -> Tensor:
    """Runs a reduction kernel; the result has the reduced dimensions as 1."""
    block, _ = _blocks(x, dims)
    y = new((block.shape[0], block.shape[2]), dtype)
    getattr(backend_of(x), name)(block, *constants, y.buffer)
    return Tensor(y.buffer.reshape(_kept(x.shape, dims)))


class Sum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.shape = x.shape
        return _reduce("reduce_sum", x, dims, x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        return expand(dy, ctx.shape), None


class Mean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.shape, ctx.count = x.shape, math.prod([x.shape[d] for d in dims])
        return _reduce("reduce_mean", x, dims, x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        return expand(dy / ctx.count, ctx.shape), None


class Max(Function):
    """Entries equal to the extremum share the gradient equally."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], kernel: str) -> Tensor:
        y = _reduce(kernel, x, dims, x.dtype)
        ctx.dims = dims
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None, None]:
        x, y = ctx.saved_tensors
        chosen = eq(x, y)
        count = sum(chosen, ctx.dims, keepdim=True).to(dy.dtype)
        return where(chosen, dy / count, 0.0), None, None


class Var(Function):
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], correction: int) -> Tensor:
        ctx.dims, ctx.divisor = dims, builtins.max(math.prod([x.shape[d] for d in dims]) - correction, 0)
        ctx.save_for_backward(x)
        return _reduce("reduce_var", x, dims, x.dtype, correction)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None, None]:
        (x,) = ctx.saved_tensors
        scale = 2 / ctx.divisor if ctx.divisor else math.inf
        return dy * scale * (x - mean(x, ctx.dims, keepdim=True)), None, None


class LogSumExp(Function):
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        y = _reduce("reduce_logsumexp", x, dims, x.dtype)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None]:
        x, y = ctx.saved_tensors
        return dy * exp(x - y), None


def _finish(y: Tensor, x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return y if keepdim else reshape(y, tuple([n for d, n in enumerate(x.shape) if d not in dims]))


def sum(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The sum over dimensions (all of them by default); integers and truth values sum as int64."""
    x = as_tensor_operand(x, "sum")
    x = x.to(as_dtype(dtype) if dtype is not None else int64 if x.dtype is dtypes.bool else x.dtype)
    dims = many_dims(dim, x.ndim, "sum")
    return _finish(Sum.apply(x, dims), x, dims, keepdim)


def mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The mean over dimensions (all of them by default). TypeError for integers."""
    x = as_tensor_operand(x, "mean")
    if not x.dtype.is_floating_point:
        raise TypeError(f"[mean] expected a tensor of floating dtype, got {x.dtype}; use x.float().mean()")
    dims = many_dims(dim, x.ndim, "mean")
    return _finish(Mean.apply(x, dims), x, dims, keepdim)


def var(x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False, unbiased: bool | None = None) -> Tensor:
    """The variance over dimensions: Σ(x − mean)²/(r − correction)."""
    x = floating(x, "var")
    dims = many_dims(dim, x.ndim, "var")
    correction = correction if unbiased is None else int(unbiased)
    return _finish(Var.apply(x, dims, int(correction)), x, dims, keepdim)


def std(x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False, unbiased: bool | None = None) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(x, dim, correction, keepdim, unbiased))


def logsumexp(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """ln Σ eˣ over dimensions, without overflow."""
    x = floating(x, "logsumexp")
    dims = many_dims(dim, x.ndim, "logsumexp")
    return _finish(LogSumExp.apply(x, dims), x, dims, keepdim)


def _refuse_empty(x: Tensor, dims: tuple[int, ...], op: str) -> None:
    if math.prod([x.shape[d] for d in dims]) == 0:
        raise ValueError(f"[{op}] expected at least one element to reduce, got shape {x.shape}")


def _extreme(x: Tensor, dim: Any, keepdim: bool, op: str, kernel: str) -> Tensor:
    x = as_tensor_operand(x, op)
    x = x.to(int64) if x.dtype is dtypes.bool else x
    dims = many_dims(dim, x.ndim, op)
    _refuse_empty(x, dims, op)
    return _finish(Max.apply(x, dims, kernel), x, dims, keepdim)


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
    y = _reduce(op, x.detach(), dims, int64)
    return _finish(y, x, dims, keepdim)


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
    return Extremum(*(t if keepdim else reshape(t, x.shape[:at] + x.shape[at + 1 :]) for t in (values, indices)))


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
    """The p-norm (Σ|x|ᵖ)^(1/p) over dimensions, for p = 1, 2, ∞ and others."""
    x = floating(x, "norm")
    if p == 2:
        return sqrt(sum(square(x), dim, keepdim))
    if p == math.inf:
        return amax(absolute(x), dim, keepdim)
    if p == 1:
        return sum(absolute(x), dim, keepdim)
    return sum(absolute(x) ** p, dim, keepdim) ** (1 / p)
