"""Normalisation: layer norm, RMS norm and batch norm.

The kernels see matrices: layer and RMS norm have a row for each set of values that share a mean, batch norm a column.
Each has its composition of plain operations, for backward passes that are themselves recorded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastbp.autograd import mode
from fastbp.dtypes import DType, int64
from fastbp.function import Function, composed_gradients, record
from fastbp.kernels.storage import empty
from fastbp.ops.common import as_tensor_operand, backend_of, like, number_of, shape_from, shaped
from fastbp.ops.inplace import add_
from fastbp.ops.reduce import mean as mean_of
from fastbp.ops.shape import movedim
from fastbp.ops.unary import reciprocal, sqrt, square
from fastbp.tensor import Tensor, contiguous

__all__ = [
    "batch_norm",
    "layer_norm",
    "rms_norm",
]


def _affine(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
    x = x if w is None else x * w
    return x if b is None else x + b


def _normalised(x: Tensor, dim: int, eps: float, centered: bool = True) -> Tensor:
    """(x − μ)/√(mean of the squares of that + ε) along a dimension of a matrix; μ is 0 if not centered."""
    d = x
    if centered:
        d = x - mean_of(x, dim, keepdim=True)
        if not mode.composed:  # who looks at the operations is to see the definition
            d = d - mean_of(d, dim, keepdim=True)  # what rounding left, which is all that there is of equal values
    return d / sqrt(mean_of(square(d), dim, keepdim=True) + eps)


def _buffer(x: Tensor | None) -> Any:
    return None if x is None else contiguous(x)


# ---------------------------------------------------------------- rows


class RowNorm(Function):
    """Layer norm, or RMS norm, of the rows of a matrix."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any, Any]:
        x, w, b, mean, rstd = ctx.saved_tensors
        if mode.enabled:
            return composed_gradients(ctx.composition, (x, w, b), ctx.edges, dy)
        need_x, need_w, need_b = ctx.edges
        k, g, rows = backend_of(dy), contiguous(dy), contiguous(x)
        statistics = _buffer(mean), contiguous(rstd)
        dx = dw = db = None
        if need_x:
            dx = like(x)
            k.row_norm_backward_input(g, rows, _buffer(w), *statistics, dx.buffer)
        if need_w or need_b:
            dw = Tensor(empty(g.shape[1:], g.dtype))
            db = Tensor(empty(g.shape[1:], g.dtype)) if need_b else None
            k.row_norm_backward_weight(g, rows, *statistics, False, dw.buffer, _buffer(db))
        return dx, dw if need_w else None, db


def _row_norm(x: Tensor, w: Tensor | None, b: Tensor | None, eps: float, centered: bool) -> Tensor:
    def composition(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        return _affine(_normalised(x, 1, eps, centered), w, b)

    if mode.composed:
        return composition(x, w, b)
    rows, y = contiguous(x), like(x)
    statistics = [empty(rows.shape[:1], rows.dtype) if given else None for given in (centered, True)]
    backend_of(x).row_norm_forward(rows, _buffer(w), _buffer(b), eps, *statistics, y.buffer)
    if node := record(RowNorm, (x, w, b), y):
        node.composition = composition
        node.save_for_backward(x, w, b, *[None if s is None else Tensor(s) for s in statistics])
    return y


def _over_last(
    op: str, input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float | None, centered: bool
) -> Tensor:
    x = _floating(op, input)
    shape = shape_from(op, (normalized_shape,))
    kept = x.ndim - len(shape)
    if not shape or kept < 0 or x.shape[kept:] != shape:
        raise ValueError(f"[{op}] expected input of shape (..., {', '.join(map(str, shape))}), got {x.shape}")
    cols = math.prod(shape)
    w, b = (_parameter(op, name, p, shape, x.dtype) for name, p in (("weight", weight), ("bias", bias)))
    w, b = (None if p is None else shaped(p, (cols,)) for p in (w, b))
    epsilon = float(np.finfo(x.dtype.dtype).eps) if eps is None else number_of(eps, op, "eps", least=0)
    y = _row_norm(shaped(x, (math.prod(x.shape[:kept]), cols)), w, b, epsilon, centered)
    return shaped(y, x.shape)


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """y = (x − μ)/√(σ² + ε)·w + b, with mean μ and variance σ² (biased) over the last dimensions of x, those of
    normalized_shape, which w and b have too (Ba, Kiros and Hinton, 2016).

    Raises ValueError for shapes that do not fit and for eps < 0, TypeError for operands that are not tensors of one
    floating dtype.
    """
    return _over_last("layer_norm", input, normalized_shape, weight, bias, eps, True)


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """y = x/√(mean of x² + ε)·w over the last dimensions of x, those of normalized_shape (Zhang and Sennrich, 2019).

    eps: the machine epsilon of x's dtype where it is None. Errors as for layer_norm.
    """
    return _over_last("rms_norm", input, normalized_shape, weight, None, eps, False)


# ---------------------------------------------------------------- columns


class BatchNorm(Function):
    """Batch norm of the columns of a matrix by their own statistics."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any, Any]:
        x, w, b, mean, rstd = ctx.saved_tensors
        if mode.enabled:
            return composed_gradients(ctx.composition, (x, w, b), ctx.edges, dy)
        need_x, need_w, need_b = ctx.edges
        dx = like(x) if need_x else None
        dw, db = _weight_gradients(x, dy, w, mean, rstd, dx)
        return dx, dw if need_w else None, db if need_b else None


class GivenNorm(Function):
    """Batch norm of the columns of a matrix by given statistics."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any, Any]:
        x, w, b, mean, variance = ctx.saved_tensors
        if mode.enabled:
            return composed_gradients(ctx.composition, (x, w, b), ctx.edges, dy)
        need_x, need_w, need_b = ctx.edges
        dx = dw = db = None
        if need_x:
            dx = like(x)
            backend_of(dy).batch_norm_apply(
                contiguous(dy), None, contiguous(variance), _buffer(w), None, ctx.eps, dx.buffer
            )
        if need_w or need_b:
            dw, db = _weight_gradients(x, dy, None, mean, reciprocal(sqrt(variance + ctx.eps)), None)
        return dx, dw if need_w else None, db if need_b else None


def _weight_gradients(
    x: Tensor, dy: Tensor, w: Tensor | None, mean: Tensor, rstd: Tensor, dx: Tensor | None
) -> tuple[Tensor, Tensor]:
    """dw and db; and dx by way of the statistics, where that is wanted."""
    dw, db = like(mean), like(mean)
    backend_of(dy).batch_norm_backward(
        contiguous(dy),
        contiguous(x),
        _buffer(w),
        contiguous(mean),
        contiguous(rstd),
        _buffer(dx),
        dw.buffer,
        db.buffer,
    )
    return dw, db


def _by_own_statistics(
    x: Tensor, w: Tensor | None, b: Tensor | None, eps: float, momentum: Any, running: tuple[Any, Any], batches: Any
) -> Tensor:
    def composition(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        return _affine(_normalised(x, 0, eps), w, b)

    matrix, y = contiguous(x), like(x)
    mean, rstd = (empty(matrix.shape[1:], matrix.dtype) for _ in range(2))
    backend_of(x).batch_norm_forward(
        matrix,
        _buffer(w),
        _buffer(b),
        _buffer(batches),
        eps,
        0.0 if momentum is None else momentum,
        *[None if r is None else r.buffer for r in running],
        y.buffer,
        mean,
        rstd,
    )
    if mode.composed:  # the running statistics have been moved all the same
        return composition(x, w, b)
    if node := record(BatchNorm, (x, w, b), y):
        node.composition = composition
        node.save_for_backward(x, w, b, Tensor(mean), Tensor(rstd))
    return y


def _by_given_statistics(
    x: Tensor, w: Tensor | None, b: Tensor | None, eps: float, mean: Tensor, variance: Tensor
) -> Tensor:
    def composition(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        return _affine((x - mean) / sqrt(variance + eps), w, b)

    if mode.composed:
        return composition(x, w, b)
    y = like(x)
    backend_of(x).batch_norm_apply(
        contiguous(x), contiguous(mean), contiguous(variance), _buffer(w), _buffer(b), eps, y.buffer
    )
    if node := record(GivenNorm, (x, w, b), y):
        node.composition, node.eps = composition, eps
        node.save_for_backward(x, w, b, mean, variance)
    return y


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    batches: Tensor | None = None,
) -> Tensor:
    """y = (x − μ)/√(σ² + ε)·w + b for x (N, C) or (N, C, ...), with μ, σ², w and b of shape (C,).

    In training μ and σ² are the mean and the biased variance of each channel over all else, and the running
    statistics, where they are given, move towards them: r ← (1 − m)·r + m·s, m the momentum, s the mean or the unbiased
    variance. Otherwise μ and σ² are the running statistics. Source: Ioffe and Szegedy, 2015.
    batches: an int64 tensor of one element that counts the batches of training, and is advanced here.
    momentum: with None m = 1/batches, so that the running statistics are means over all batches.
    Raises ValueError for shapes that do not fit, for a single value of a channel in training, for running statistics
    that are missing otherwise, for eps < 0 and for momentum outside of 0 .. 1; TypeError for operands that are not
    tensors of one floating dtype. Nothing is counted or moved then.
    """
    op = "batch_norm"
    x = _floating(op, input)
    if x.ndim < 2:
        raise ValueError(f"[{op}] expected input of shape (N, C) or (N, C, ...), got {x.shape}")
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    mean, variance, w, b = (_parameter(op, name, p, x.shape[1:2], x.dtype) for name, p in given.items())
    epsilon = number_of(eps, op, "eps", least=0)
    channels_last = movedim(x, 1, -1) if x.ndim > 2 else x
    matrix = shaped(channels_last, (math.prod(channels_last.shape[:-1]), x.shape[1]))
    if training:
        if matrix.shape[0] < 2:
            raise ValueError(f"[{op}] expected more than one value of each channel in training, got input {x.shape}")
        if momentum is not None:
            momentum = number_of(momentum, op, "momentum", least=0, most=1)
        _check_count(op, batches, momentum)
        counted = None if batches is None or momentum is not None else batches + 1
        y = _by_own_statistics(matrix, w, b, epsilon, momentum, (mean, variance), counted)
        if batches is not None:
            add_(batches, 1)  # last, so that a batch that the kernel refuses is not counted
    elif mean is None or variance is None:
        raise ValueError(f"[{op}] expected running_mean and running_var outside of training, got None")
    else:
        y = _by_given_statistics(matrix, w, b, epsilon, mean, variance)
    y = shaped(y, channels_last.shape)
    return movedim(y, -1, 1) if x.ndim > 2 else y


def _check_count(op: str, batches: Tensor | None, momentum: float | None) -> None:
    if batches is None:
        if momentum is None:
            raise ValueError(f"[{op}] expected momentum or batches, got neither")
        return
    if not isinstance(batches, Tensor) or batches.dtype is not int64 or batches.numel() != 1:
        raise ValueError(f"[{op}] expected batches as an int64 tensor of one element, got {batches!r}")


# ---------------------------------------------------------------- operands


def _floating(op: str, x: Any) -> Tensor:
    x = as_tensor_operand(x, op)
    if not x.dtype.is_floating_point:
        raise TypeError(f"[{op}] expected input of floating dtype, got {x.dtype}")
    return x


def _parameter(op: str, name: str, p: Any, shape: tuple[int, ...], dtype: DType) -> Tensor | None:
    """An optional operand, of this shape and dtype."""
    if p is None:
        return None
    p = as_tensor_operand(p, op)
    if p.shape != shape:
        raise ValueError(f"[{op}] expected {name} of shape {shape}, got {p.shape}")
    if p.dtype is not dtype:
        raise TypeError(f"[{op}] expected {name} of input's dtype, {dtype}, got {p.dtype}")
    return p
