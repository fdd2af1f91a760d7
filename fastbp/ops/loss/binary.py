"""Losses of yes and no: cross-entropy of probabilities and logits, focal loss, hinges."""

from __future__ import annotations

import functools

from fastbp.ops.binary import ne, where
from fastbp.ops.common import number_of
from fastbp.ops.loss.element import coefficient_operand, element_loss
from fastbp.ops.loss.fused import floating_operand
from fastbp.ops.unary import clamp, log, relu, sigmoid, softplus_unit, square
from fastbp.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "hinge_embedding_loss",
    "hinge_loss",
    "sigmoid_focal_loss",
]

_EDGE = 1e-12  # the least x·(1 − x) that the slope (x − t)/(x·(1 − x)) is divided by


def _cross_entropy(t: Tensor, log_x: Tensor, log_not_x: Tensor) -> Tensor:
    return -(t * log_x + (1 - t) * log_not_x)


def _binary_cross_entropy(x: Tensor, t: Tensor) -> Tensor:
    edge = x * (1 - x) < _EDGE
    inside = where(edge, 0.5, x)
    fixed = x.detach()
    bounded = _cross_entropy(t, clamp(log(fixed), min=-100), clamp(log(1 - fixed), min=-100))
    slope = square(x - t.detach()) * (0.5 / _EDGE)  # a term that is 0, with the derivative that is meant there
    return where(edge, bounded + (slope - slope.detach()), _cross_entropy(t, log(inside), log(1 - inside)))


def binary_cross_entropy(
    input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None
) -> Tensor:
    """l = −(t ln x + (1 − t) ln(1 − x)) for probabilities x; the logarithms are kept ≥ −100, as PyTorch does."""
    op, kernel = "binary_cross_entropy", "binary_cross_entropy_forward"
    return element_loss(op, kernel, _binary_cross_entropy, input, target, reduction, sample_weight)


def _with_logits(x: Tensor, t: Tensor, p: Tensor | None = None) -> Tensor:
    positive = t if p is None else p * t
    return positive * softplus_unit(-x) + (1 - t) * softplus_unit(x)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = p·t·ln(1 + e⁻ˣ) + (1 − t)·ln(1 + eˣ) for logits x: binary cross-entropy of σ(x), without overflow.

    pos_weight: p, the weight of positive examples; broadcasts to the input. 1 when left out.
    """
    op, kernel = "binary_cross_entropy_with_logits", "sigmoid_cross_entropy_forward"
    if pos_weight is not None:
        input = floating_operand(input, op, "input")
        pos_weight = coefficient_operand(op, "pos_weight", pos_weight, input)
    return element_loss(op, kernel, _with_logits, input, target, reduction, sample_weight, coefficient=pos_weight)


def _focal(alpha: float, gamma: float, x: Tensor, t: Tensor) -> Tensor:
    missed = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    fixed = missed.detach()
    none = fixed == 0
    ratio = where(none, 1.0, missed) / where(none, 1.0, fixed)  # 1: no power of it overflows in a derivative
    losses = fixed**gamma * ratio**gamma * _with_logits(x, t)
    return losses if alpha < 0 else (alpha * t + (1 - alpha) * (1 - t)) * losses


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of logits x that counts what is easy less (Lin et al., 2017): l = a·(1 − pₜ)^γ·ce.

    With p = σ(x): pₜ = p·t + (1 − p)·(1 − t), ce = −(t ln p + (1 − t) ln(1 − p)), a = α·t + (1 − α)·(1 − t), or 1 for
    alpha < 0. Raises ValueError for gamma < 0 and for alpha > 1.
    """
    op = "sigmoid_focal_loss"
    alpha, gamma = number_of(alpha, op, "alpha", most=1), number_of(gamma, op, "gamma", least=0)
    value = functools.partial(_focal, alpha, gamma)
    constants = (alpha, gamma)
    return element_loss(op, "sigmoid_focal_forward", value, input, target, reduction, sample_weight, constants)


def _hinge(x: Tensor, t: Tensor) -> Tensor:
    return relu(1 - t * x)


def hinge_loss(input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """l = max(0, 1 − t·x) for scores x and targets t, −1 or 1 (Cortes and Vapnik, 1995); derivative 0 where t·x = 1."""
    return element_loss("hinge_loss", "hinge_forward", _hinge, input, target, reduction, sample_weight)


def _hinge_embedding(margin: float, x: Tensor, t: Tensor) -> Tensor:
    return where(ne(t, -1.0), x, 0.0) + where(ne(t, 1.0), clamp(margin - x, min=0), 0.0)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = x where t = 1, max(0, margin − x) where t = −1, for distances x and targets t, −1 or 1."""
    op = "hinge_embedding_loss"
    margin = number_of(margin, op, "margin")
    value = functools.partial(_hinge_embedding, margin)
    return element_loss(op, "hinge_embedding_forward", value, input, target, reduction, sample_weight, (margin,))
