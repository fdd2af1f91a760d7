"""The frame of losses that are sums over elements: every element of the input against one of the target."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from fastbp.ops.common import broadcast_shape
from fastbp.ops.loss.fused import (
    REDUCTIONS,
    Fused,
    buffer_of,
    check_reduction,
    denominator_of,
    floating_operand,
    of_rows,
    reduced,
    run,
    tensor_operand,
    weights_of,
)
from fastbp.ops.shape import expand, reshape
from fastbp.tensor import Tensor


def element_loss(
    op: str,
    kernel: str,
    value: Callable[..., Tensor],
    input: Any,
    target: Any,
    reduction: str,
    sample_weight: Any,
    constants: tuple[float, ...] = (),
    coefficient: Any = None,
    reductions: tuple[str, ...] = REDUCTIONS,
) -> Tensor:
    """A loss that is a sum over elements; value(x, t, coefficient where there is one): it, from plain operations.

    coefficient: of every element, such as the weight of positive ones; broadcasts to the input.
    """
    x, t = floating_operand(input, op, "input"), tensor_operand(target, op, "target")
    check_reduction(reduction, op, reductions)
    dtype, shape = x.dtype, x.shape
    if shape != t.shape:
        raise ValueError(f"[{op}] expected target of the shape of input, {shape}, got {t.shape}")
    if t.dtype is not dtype:
        t = t.to(dtype)
    entries, each = shape[0] if shape else 1, math.prod(shape[1:])
    s = weights_of(sample_weight, (entries,), dtype, op)
    if reduction == "none":  # every element is a row of its own, with the weight of its entry
        rows, weights = (x.numel(), 1), of_rows(s, shape)
    else:
        rows, weights = (entries, each), buffer_of(s, (entries,))
    p = None if coefficient is None else _coefficient(coefficient, shape, rows)
    loss = Fused(op, kernel, constants, functools.partial(_composed, value, reduction), (x, t, coefficient, s))
    denominator = denominator_of(dtype, reduction, s, entries, each if reduction == "mean" else 1)
    return run(loss, (buffer_of(x, rows), buffer_of(t, rows), p, weights), denominator, shape, reduction)


def _composed(
    value: Callable[..., Tensor], reduction: str, x: Tensor, t: Tensor, p: Tensor | None, s: Tensor | None
) -> Tensor:
    return reduced(value(x, t) if p is None else value(x, t, p), s, reduction)


def _coefficient(p: Tensor, shape: tuple[int, ...], rows: tuple[int, int]) -> Any:
    """Coefficients as the kernel takes them: (cols,), or (rows, cols) where those of rows differ."""
    p = p.detach()
    if p.numel() == 1 and rows[1] == 1:
        return buffer_of(p, (1,))
    alike = rows == (shape[0], math.prod(shape[1:])) if shape else False
    if alike and (p.ndim < len(shape) or p.shape[0] == 1):
        p = p if p.ndim < len(shape) else reshape(p, p.shape[1:])
        return buffer_of(expand(p, shape[1:]), rows[1:])
    return buffer_of(expand(p, shape), rows)


def coefficient_operand(op: str, name: str, p: Any, x: Tensor) -> Tensor:
    """A coefficient in x's dtype. ValueError where it does not broadcast to x."""
    p = tensor_operand(p, op, name)
    if broadcast_shape(op, p.shape, x.shape) != x.shape:
        raise ValueError(f"[{op}] expected {name} that broadcasts to {x.shape}, got {p.shape}")
    return p.to(x.dtype)
