"""Losses of real targets: squared, absolute and in between, and quantiles."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from fastbp.dtypes import DType, float64
from fastbp.kernels import recorder
from fastbp.ops.binary import maximum, where
from fastbp.ops.common import number_of
from fastbp.ops.loss.element import element_loss
from fastbp.ops.loss.fused import floating_operand, tensor_operand
from fastbp.ops.shape import cat, expand, reshape, unsqueeze
from fastbp.ops.unary import abs as absolute
from fastbp.ops.unary import square
from fastbp.tensor import Tensor, filled

__all__ = ["huber_loss", "l1_loss", "mse_loss", "quantile_loss", "smooth_l1_loss"]


def _squared(x: Tensor, t: Tensor) -> Tensor:
    return square(x - t)


def _absolute(x: Tensor, t: Tensor) -> Tensor:
    return absolute(x - t)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """Squared error l = (x − t)²."""
    return element_loss("mse_loss", "mse_forward", _squared, input, target, reduction, sample_weight)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """Absolute error l = |x − t|; the derivative at 0 is 0."""
    return element_loss("l1_loss", "l1_forward", _absolute, input, target, reduction, sample_weight)


def _huber(delta: float, x: Tensor, t: Tensor) -> Tensor:
    d = x - t
    size = absolute(d)
    return where(size < delta, square(d) * 0.5, (size - 0.5 * delta) * delta)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = d²/2 where |d| < δ, else δ·(|d| − δ/2), with d = x − t (Huber, 1964). ValueError where δ is not
    above 0 in the input's dtype."""
    op = "huber_loss"
    delta = number_of(delta, op, "delta", above=0, dtype=floating_operand(input, op, "input").dtype)
    value = functools.partial(_huber, delta)
    return element_loss(op, "huber_forward", value, input, target, reduction, sample_weight, (delta,))


def _smooth_l1(beta: float, x: Tensor, t: Tensor) -> Tensor:
    if beta == 0:
        return _absolute(x, t)
    d = x - t
    size = absolute(d)
    return where(size < beta, square(d) * 0.5 / beta, size - 0.5 * beta)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    beta: float = 1.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = d²/(2β) where |d| < β, else |d| − β/2, with d = x − t; |d| where β is 0 in the input's dtype
    (Girshick, 2015: β = 1).

    That is huber_loss with δ = β, divided by β. ValueError for beta < 0.
    """
    op = "smooth_l1_loss"
    beta = number_of(beta, op, "beta", least=0, dtype=floating_operand(input, op, "input").dtype)
    value = functools.partial(_smooth_l1, beta)
    return element_loss(op, "smooth_l1_forward", value, input, target, reduction, sample_weight, (beta,))


def _pinball(x: Tensor, t: Tensor, q: Tensor) -> Tensor:
    d = t - x
    return maximum(q * d, (q - 1) * d)


def quantile_loss(
    input: Tensor,
    target: Tensor,
    quantiles: Sequence[float] | Tensor,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Pinball loss l = max(q·d, (q − 1)·d), d = t − x, of several quantiles at once (Koenker and Bassett, 1978).

    input: (..., Q), the predictions of the Q quantiles; target: (...), one value for all of them. quantiles: Q numbers
    strictly between 0 and 1. Where d = 0 the derivative is ½ − q. In the mean each of the Q losses of an entry counts.
    Raises ValueError for quantiles out of range (a tensor's values are not looked at in a compiled function) and for
    shapes that do not fit.
    """
    op = "quantile_loss"
    x, t = floating_operand(input, op, "input"), tensor_operand(target, op, "target")
    q = _quantiles(quantiles, x.dtype, op)
    if x.shape != (*t.shape, q.shape[0]):
        raise ValueError(
            f"[{op}] expected input of shape {(*t.shape, q.shape[0])}, that of target and one for each of "
            f"{q.shape[0]} quantiles, got {x.shape}"
        )
    shape = x.shape
    if t.ndim == 0:  # one entry
        x, t = reshape(x, (1, *shape)), reshape(t, (1,))
    t = expand(unsqueeze(t, -1), x.shape)
    y = element_loss(op, "quantile_forward", _pinball, x, t, reduction, sample_weight, coefficient=q)
    return reshape(y, shape) if reduction == "none" and y.shape != shape else y


def _quantiles(quantiles: Any, dtype: Any, op: str) -> Tensor:
    """Quantiles as a tensor (Q,) of a dtype, checked as far as that is possible."""
    if isinstance(quantiles, Tensor):
        q = floating_operand(quantiles, op, "quantiles")
        if q.ndim != 1 or q.numel() == 0:
            raise ValueError(f"[{op}] expected quantiles of shape (Q,), got {q.shape}")
        q = q.to(dtype)
        if recorder() is None and not ((q > 0) & (q < 1)).all().item():
            raise ValueError(f"[{op}] expected quantiles strictly between 0 and 1, got {q.tolist()}")
        return q
    return cat([filled((1,), number, dtype) for number in quantile_numbers(quantiles, op, dtype)])


def quantile_numbers(quantiles: Any, op: str, dtype: DType = float64) -> tuple[float, ...]:
    """A sequence of quantiles, checked. TypeError for another thing, ValueError for none and for numbers out of range,
    also when they are rounded to a dtype."""
    try:
        numbers = tuple(float(number) for number in quantiles)
    except (TypeError, ValueError):
        raise TypeError(f"[{op}] expected quantiles as a tensor or a sequence of numbers, got {quantiles!r}") from None
    if not numbers or not all(0 < number < 1 and 0 < dtype.dtype.type(number) < 1 for number in numbers):
        raise ValueError(f"[{op}] expected quantiles strictly between 0 and 1, also as {dtype}, got {numbers}")
    return numbers
