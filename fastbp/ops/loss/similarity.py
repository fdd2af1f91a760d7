"""Losses of pairs: how alike two vectors are to be."""

from __future__ import annotations

import functools

from fastbp.ops.binary import eq, where
from fastbp.ops.common import number_of
from fastbp.ops.loss.fused import (
    Fused,
    buffer_of,
    check_reduction,
    denominator_of,
    floating_operand,
    operand_of,
    reduced,
    run,
    weights_of,
)
from fastbp.ops.reduce import sum as sum_of
from fastbp.ops.shape import reshape
from fastbp.ops.unary import clamp, sqrt, square
from fastbp.tensor import Tensor

__all__ = ["cosine_embedding_loss"]


def _cosine_embedding(margin: float, reduction: str, a: Tensor, b: Tensor, t: Tensor, s: Tensor | None) -> Tensor:
    size_a, size_b = (sqrt(sum_of(square(x), 1) + 1e-12) for x in (a, b))
    cosine = sum_of(a * b, 1) / (size_a * size_b)
    losses = where(eq(t, 1.0), 1 - cosine, 0.0) + where(eq(t, -1.0), clamp(cosine - margin, min=0), 0.0)
    return reduced(losses, s, reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = 1 − c where t = 1, max(0, c − margin) where t = −1, with c = a·b/√((a·a + 10⁻¹²)·(b·b + 10⁻¹²)).

    input1, input2: a and b (N, D), or (D,) for one pair, of one floating dtype; target: (N,) or a scalar, 1 for pairs
    that are to be alike and −1 for others. "none" gives target's shape. Both inputs have gradients.
    Raises ValueError for shapes that do not fit and for a margin outside of −1 to 1, TypeError for dtypes.
    """
    op = "cosine_embedding_loss"
    check_reduction(reduction, op)
    a, b = floating_operand(input1, op, "input1"), floating_operand(input2, op, "input2")
    margin = number_of(margin, op, "margin", least=-1, most=1)
    if a.ndim not in (1, 2):
        raise ValueError(f"[{op}] expected input1 of shape (N, D) or (D,), got {a.shape}")
    if b.shape != a.shape:
        raise ValueError(f"[{op}] expected input2 of the shape of input1, {a.shape}, got {b.shape}")
    if b.dtype is not a.dtype:
        raise TypeError(f"[{op}] expected input2 of the dtype of input1, {a.dtype}, got {b.dtype}")
    t = operand_of(target, a.shape[:-1], a.dtype, op, "target")
    outside = t.shape
    if a.ndim == 1:  # one pair
        a, b, t = reshape(a, (1, -1)), reshape(b, (1, -1)), reshape(t, (1,))
    rows = a.shape[0]
    s = weights_of(sample_weight, (rows,), a.dtype, op)
    composition = functools.partial(_cosine_embedding, margin, reduction)
    loss = Fused(op, "cosine_embedding_forward", (margin,), composition, (a, b, t, s), (0, 1))
    reads = [None if x is None else buffer_of(x, x.shape) for x in (a, b, t, s)]
    y = run(loss, reads, denominator_of(a.dtype, reduction, s, rows, 1), (rows,), reduction)
    return reshape(y, outside) if reduction == "none" and y.shape != outside else y
