"""Matrix products: linear layers, and matmul from 1-D to N-D."""

from __future__ import annotations

import math
from typing import Any

from fastbp.autograd import mode
from fastbp.function import Function, record
from fastbp.kernels.storage import empty
from fastbp.ops.common import as_tensor_operand, backend_of, broadcast_shape, like, new
from fastbp.ops.shape import expand, reshape, transpose
from fastbp.tensor import Tensor, contiguous

__all__ = [
    "dot",
    "linear",
    "matmul",
]


class Linear(Function):
    """y = x·wᵀ + b on (m, k) inputs: dx = dy·w, dw = dyᵀ·x, db = column sums of dy."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any, Any]:
        x, w = ctx.saved_tensors
        need_x, need_w, need_b = ctx.edges
        if mode.enabled:
            dx = matmul(dy, w) if need_x else None
            dw = matmul(transpose(dy, 0, 1), x) if need_w else None
            return dx, dw, dy.sum(0) if need_b else None
        k, g = backend_of(dy), contiguous(dy)
        dx = dw = db = None
        if need_x:
            dx = like(x)
            k.linear_backward_input(g, contiguous(w), None, 0.0, None, dx.buffer)
        if need_w or need_b:
            dw = like(w)
            db = Tensor(empty((g.shape[1],), g.dtype)) if need_b else None
            k.linear_backward_weight(g, contiguous(x), False, dw.buffer, None if db is None else db.buffer)
        return dx, dw if need_w else None, db


def _linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    if mode.composed:
        y = _matmul(x, transpose(w, 0, 1))
        return y if b is None else y + b
    xb, wb, bias = contiguous(x), contiguous(w), None if b is None else contiguous(b)
    buffer = empty((xb.shape[0], wb.shape[0]), xb.dtype)
    try:
        backend_of(x).linear_forward(xb, wb, bias, None, 0.0, None, buffer)
    except (TypeError, ValueError):
        _require_fitting(x, w)  # mostly it is x that is not as the layer has it
        raise
    y = Tensor(buffer)
    if node := record(Linear, (x, w, b), y):
        node.save_for_backward(x, w)
    return y


def _require_fitting(x: Tensor, w: Tensor) -> None:
    if x.dtype is not w.dtype:
        raise TypeError(f"[linear] expected x of the dtype of w, {w.dtype}, got {x.dtype}") from None
    if w.ndim == 2 and x.shape[1] != w.shape[1]:
        raise ValueError(f"[linear] expected x of shape (..., {w.shape[1]}) for w {w.shape}, got {x.shape}") from None


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """y = x·wᵀ + b for x (..., k), w (n, k), b (n,); y (..., n).

    Raises ValueError for sizes that do not fit, TypeError for operands that are not tensors of one floating dtype.
    """
    shape = as_tensor_operand(x, "linear").buffer.shape
    if len(shape) == 2:
        return _linear(x, w, b)
    if not shape:
        raise ValueError("[linear] expected x of shape (..., k), got a scalar")
    rows = reshape(x, (math.prod(shape[:-1]), shape[-1]))
    return reshape(_linear(rows, w, b), (*shape[:-1], w.shape[0]))


class MatMul(Function):
    """y = a·b on (batch, m, k) and (batch, k, n), or (m, k) and (k, n); the batch of one operand may be 1."""

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        a, b = ctx.saved_tensors
        need_a, need_b = ctx.edges
        da = _batch_sum(_matmul(dy, transpose(b, -1, -2)), a.shape) if need_a else None
        db = _batch_sum(_matmul(transpose(a, -1, -2), dy), b.shape) if need_b else None
        return da, db


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    (left, transpose_a), (right, transpose_b) = _stored(a), _stored(b)
    batch = (max(a.shape[0], b.shape[0]) if 0 not in (a.shape[0], b.shape[0]) else 0,) if a.ndim == 3 else ()
    y = new((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    backend_of(a).matmul(left, right, transpose_a, transpose_b, False, y.buffer)
    if node := record(MatMul, (a, b), y):
        node.save_for_backward(a, b)
    return y


def _batch_sum(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    return gradient if gradient.shape == shape else gradient.sum(0, keepdim=True)


def _stored(x: Tensor) -> tuple[Any, bool]:
    """The operand's memory as the kernel takes it: contiguous, or contiguous with the last two dimensions swapped."""
    b = x.buffer
    if b.contiguous:
        return b, False
    *lead, m, n = b.shape
    *lead_strides, sm, sn = b.strides
    swapped = b.view([*lead, n, m], [*lead_strides, sn, sm])
    return (swapped, True) if swapped.contiguous else (contiguous(x), False)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of vectors, matrices, or stacks of matrices whose leading dimensions broadcast, as NumPy's matmul.

    Raises ValueError for sizes that do not fit or scalars, TypeError for operands that are not tensors of one floating
    dtype.
    """
    a, b = as_tensor_operand(a, "matmul"), as_tensor_operand(b, "matmul")
    if a.dtype is not b.dtype or not a.dtype.is_floating_point:
        raise TypeError(f"[matmul] expected operands of one floating dtype, got {a.dtype} and {b.dtype}")
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"[matmul] expected operands with at least one dimension, got {a.shape} and {b.shape}")
    if a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        raise ValueError(f"[matmul] expected a (..., m, k) and b (..., k, n) with equal k, got {a.shape} and {b.shape}")
    shape_a, shape_b = a.shape, b.shape
    left = reshape(a, (1, shape_a[0])) if a.ndim == 1 else a
    right = reshape(b, (shape_b[0], 1)) if b.ndim == 1 else b
    y = _matrices(left, right)
    if len(shape_a) == 1 and len(shape_b) == 1:
        return reshape(y, ())
    if len(shape_a) == 1:
        return reshape(y, (*y.shape[:-2], y.shape[-1]))
    return reshape(y, y.shape[:-1]) if len(shape_b) == 1 else y


def _matrices(a: Tensor, b: Tensor) -> Tensor:
    (m, k), n = a.shape[-2:], b.shape[-1]
    if b.ndim == 2:  # one right operand: the left stack is one tall matrix
        if a.ndim == 2:
            return _matmul(a, b)
        return reshape(_matmul(reshape(a, (math.prod(a.shape[:-1]), k)), b), (*a.shape[:-1], n))
    lead = broadcast_shape("matmul", a.shape[:-2], b.shape[:-2])
    y = _matmul(_stack(a, lead), _stack(b, lead))
    return reshape(y, (*lead, m, n))


def _stack(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    """x as (batch, rows, columns); batch 1 where the same matrix serves all."""
    rows, columns = x.shape[-2:]
    if math.prod(x.shape[:-2]) == 1:
        return reshape(x, (1, rows, columns))
    return reshape(expand(x, (*lead, rows, columns)), (math.prod(lead), rows, columns))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ aᵢbᵢ of two vectors."""
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"[dot] expected two vectors, got {a.shape} and {b.shape}")
    return matmul(a, b)
