"""softmax and log-softmax along one dimension."""

from __future__ import annotations

import math
from typing import Any

from fastbp.autograd import mode
from fastbp.function import Function, record
from fastbp.ops.common import backend_of, floating, like, one_dim
from fastbp.ops.shape import movedim, reshape
from fastbp.ops.unary import exp
from fastbp.tensor import Tensor, contiguous

__all__ = [
    "log_softmax",
    "softmax",
]


def _rows(x: Tensor) -> Any:
    shape = x.shape
    return contiguous(x).reshape((math.prod(shape[:-1]), shape[-1]))


class Softmax(Function):
    """dx = y·(dy − Σ dy·y), along the last dimension."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if mode.enabled:
            return y * (dy - (dy * y).sum(-1, keepdim=True))
        dx = like(dy)
        backend_of(dy).softmax_backward(_rows(dy), _rows(y), _rows(dx))
        return dx


class LogSoftmax(Function):
    """dx = dy − eʸ·Σ dy, along the last dimension."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if mode.enabled:
            return dy - exp(y) * dy.sum(-1, keepdim=True)
        dx = like(dy)
        backend_of(dy).log_softmax_backward(_rows(dy), _rows(y), _rows(dx))
        return dx


def _along(function: Any, x: Tensor, dim: int, op: str) -> Tensor:
    x = floating(x, op)
    at = one_dim(dim, x.ndim, op)
    if x.ndim == 0:
        return _along(function, reshape(x, 1), 0, op).reshape(())
    if at != x.ndim - 1:
        return movedim(_along(function, movedim(x, at, -1), -1, op), -1, at)
    y = like(x)
    getattr(backend_of(x), op + "_forward")(_rows(x), _rows(y))
    if node := record(function, (x,), y):
        node.save_for_backward(y)
    return y


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """y = eˣ/Σ eˣ along `dim`, without overflow."""
    return _along(Softmax, x, dim, "softmax")


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """y = x − ln Σ eˣ along `dim`, without overflow."""
    return _along(LogSoftmax, x, dim, "log_softmax")
