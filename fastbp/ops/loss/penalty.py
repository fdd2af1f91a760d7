"""Penalties on weights, to be added to a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastbp.ops.reduce import sum as sum_of
from fastbp.ops.unary import abs as absolute
from fastbp.ops.unary import square
from fastbp.tensor import Tensor

__all__ = ["l1_penalty", "l2_penalty"]


def _penalty(op: str, parameters: Any, value: Callable[[Tensor], Tensor]) -> Tensor:
    try:
        tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    except TypeError:
        raise TypeError(f"[{op}] expected a tensor or tensors, got {type(parameters).__name__}") from None
    for t in tensors:
        if not isinstance(t, Tensor) or not t.dtype.is_floating_point:
            got = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(f"[{op}] expected tensors of floating dtype, got {got}")
    if not tensors:
        raise ValueError(f"[{op}] expected at least one tensor, got none")
    total = sum_of(value(tensors[0]))
    for t in tensors[1:]:
        total = total + sum_of(value(t))
    return total


def l1_penalty(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """Σ|w| over all elements of a tensor or of tensors, as one number: without a factor, so that λ·l1_penalty has the
    gradient λ·sign(w), 0 at 0 (Tibshirani, 1996).

    Raises TypeError for what is no tensor of floating dtype, ValueError for no tensors at all.
    """
    return _penalty("l1_penalty", parameters, absolute)


def l2_penalty(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """Σw² over all elements of a tensor or of tensors, as one number: without the factor ½, so that λ·l2_penalty has
    the gradient 2λ·w; an optimizer's weight_decay=2λ is the same for plain gradient descent (Hoerl and Kennard, 1970).

    Raises TypeError for what is no tensor of floating dtype, ValueError for no tensors at all.
    """
    return _penalty("l2_penalty", parameters, square)
