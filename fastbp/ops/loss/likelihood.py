"""Losses of distributions: likelihoods of Poisson, normal and mixture distributions, and relative entropy."""

from __future__ import annotations

import functools
import math
from typing import Any

from fastbp.dtypes import float32, float64
from fastbp.kernels import recorder
from fastbp.ops.binary import where
from fastbp.ops.common import number_of
from fastbp.ops.loss.element import element_loss
from fastbp.ops.loss.fused import (
    REDUCTIONS,
    Fused,
    buffer_of,
    check_reduction,
    denominator_of,
    floating_operand,
    of_rows,
    operand_of,
    reduced,
    run,
    weights_of,
)
from fastbp.ops.reduce import logsumexp
from fastbp.ops.reduce import sum as sum_of
from fastbp.ops.shape import expand, unsqueeze
from fastbp.ops.softmax import log_softmax
from fastbp.ops.unary import exp, log, square
from fastbp.tensor import Tensor, filled

__all__ = ["gaussian_nll_loss", "kl_div", "mixture_nll_loss", "poisson_nll_loss"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LEAST_LOG_STD = {float32: -88.0, float64: -709.0}  # e⁸⁸ and e⁷⁰⁹ are numbers, e⁸⁹ and e⁷¹⁰ are not

# ---------------------------------------------------------------- losses of elements


def _stirling(t: Tensor) -> Tensor:
    large = t > 1
    u = where(large, t, 1.0)  # so that log 0 has no part in a derivative
    return where(large, (u + 0.5) * log(u) - u + _HALF_LOG_2PI, 0.0)


def _poisson(log_input: bool, full: bool, eps: float, x: Tensor, t: Tensor) -> Tensor:
    losses = exp(x) - t * x if log_input else x - t * log(x + eps)
    return losses + _stirling(t) if full else losses


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Likelihood of counts t under Poisson distributions: l = eˣ − t·x, or x − t·ln(x + ε) where not log_input.

    full: adds ln t! by Stirling's formula, t·ln t − t + ½·ln 2πt, where t > 1. ValueError for eps < 0.
    """
    op = "poisson_nll_loss"
    eps = number_of(eps, op, "eps", least=0)
    log_input, full = bool(log_input), bool(full)
    kernel = "poisson_log_nll_forward" if log_input else "poisson_nll_forward"
    constants = (float(full),) if log_input else (eps, float(full))
    value = functools.partial(_poisson, log_input, full, eps)
    return element_loss(op, kernel, value, input, target, reduction, sample_weight, constants)


def _relative_entropy(x: Tensor, t: Tensor) -> Tensor:
    return t * log(where(t == 0, 1.0, t)) - t * x


def _relative_entropy_of_logs(x: Tensor, t: Tensor) -> Tensor:
    return exp(t) * (t - x)


def kl_div(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    log_target: bool = False,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Relative entropy l = t·(ln t − x) of probabilities t against log-probabilities x (Kullback and Leibler, 1951).

    log_target: t holds logarithms too, l = eᵗ·(t − x). Reduction "batchmean" divides the sum by the total weight of
    the entries, Σᵢ sᵢ, or N without weights: the divergence as it is defined. "mean" divides by that of the elements.
    """
    value = _relative_entropy_of_logs if log_target else _relative_entropy
    kernel = "kl_log_div_forward" if log_target else "kl_div_forward"
    reductions = (*REDUCTIONS, "batchmean")
    return element_loss("kl_div", kernel, value, input, target, reduction, sample_weight, reductions=reductions)


# ---------------------------------------------------------------- losses with several gradients


def _gaussian(full: bool, eps: float, reduction: str, x: Tensor, t: Tensor, var: Tensor, s: Tensor | None) -> Tensor:
    v = var + where(var < eps, eps - var, 0.0).detach()  # the derivative of the bounded variance is that of var
    losses = (log(v) + square(x - t) / v) * 0.5
    return reduced(losses + _HALF_LOG_2PI if full else losses, s, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Likelihood of targets t under normal distributions of mean x: l = ½·(ln v + (x − t)²/v), v = max(var, ε).

    var: a number, or of input's shape, without its last dimension, or with one of them 1 (Nix and Weigend, 1994). It
    has a gradient too, that of v, also where ε is the larger. full: adds ½·ln 2π.
    Raises ValueError for shapes that do not fit, and for eps and variances that are not above 0 in the input's dtype
    (those in a tensor count as ε in a compiled function, where nobody looks at values).
    """
    op = "gaussian_nll_loss"
    x = floating_operand(input, op, "input")
    check_reduction(reduction, op)
    dtype, shape = x.dtype, x.shape
    t = operand_of(target, shape, dtype, op, "target")
    eps, full = number_of(eps, op, "eps", above=0, dtype=dtype), bool(full)
    v = _variance(var, x, op)
    entries, each = shape[0] if shape else 1, math.prod(shape[1:])
    s = weights_of(sample_weight, (entries,), dtype, op)
    if reduction == "none":
        rows, weights = (x.numel(), 1), of_rows(s, shape)
    else:
        rows, weights = (entries, each), buffer_of(s, (entries,))
    composition = functools.partial(_gaussian, full, eps, reduction)
    loss = Fused(op, "gaussian_nll_forward", (eps, float(full)), composition, (x, t, v, s), (0, 2))
    reads = (buffer_of(x, rows), buffer_of(t, rows), buffer_of(v, rows), weights)
    return run(loss, reads, denominator_of(dtype, reduction, s, entries, each), shape, reduction)


def _variance(var: Any, x: Tensor, op: str) -> Tensor:
    """Variances in the shape of x, their values checked as far as that is possible."""
    if isinstance(var, (int, float)):
        return filled(x.shape, number_of(var, op, "var", above=0, dtype=x.dtype), x.dtype)
    v = floating_operand(var, op, "var").to(x.dtype)
    if recorder() is None and (v <= 0).any().item():
        raise ValueError(f"[{op}] expected var > 0, got {v.min().item()}")
    if v.shape == x.shape:
        return v
    if v.shape == x.shape[:-1]:
        return expand(unsqueeze(v, -1), x.shape)
    others = [n for n, size in zip(v.shape, x.shape) if n != size]
    if v.ndim != x.ndim or others != [1]:
        raise ValueError(
            f"[{op}] expected var of the shape of input, {x.shape}, without its last dimension, or with one of them 1, "
            f"got {v.shape}"
        )
    return expand(v, x.shape)


def _mixture(reduction: str, logits: Tensor, means: Tensor, log_stds: Tensor, t: Tensor, s: Tensor | None) -> Tensor:
    least = _LEAST_LOG_STD[t.dtype]
    bounded = log_stds + where(log_stds < least, least - log_stds, 0.0).detach()
    prior, d, inverse = log_softmax(logits, 1), unsqueeze(t, 1) - means, exp(-bounded)

    def scores_of(d: Tensor) -> Tensor:
        return prior - sum_of(square(d * inverse) * 0.5 + bounded, 2)

    far = scores_of(d).detach() == -math.inf  # components without a density, and then without a part in derivatives
    lost = far.all(1)
    scores = where(far, -math.inf, scores_of(where(unsqueeze(far, 2), 0.0, d)))
    joint = where(lost, -math.inf, logsumexp(where(unsqueeze(lost, 1), 0.0, scores), 1))
    return reduced(t.shape[1] * _HALF_LOG_2PI - joint, s, reduction)


def mixture_nll_loss(
    logits: Tensor,
    means: Tensor,
    log_stds: Tensor,
    target: Tensor,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Likelihood under a mixture of normal distributions, the loss of mixture density networks (Bishop, 1994):

        l = −ln Σ_k π_k ∏_d N(t_d; μ_kd, σ_kd²),  π = softmax(logits),  σ = e^log_stds

    computed from logarithms alone, so that no density over- or underflows. logits (N, K), means and log_stds (N, K, D),
    target (N, D), of one floating dtype; "none" gives (N,). Of all three predictions there are gradients. Limits:
    log_stds below −88 (float32) or −709 (float64) count as that, with the gradient of it; where l is beyond the largest
    number it is ∞, with gradients 0.
    Raises ValueError for shapes that do not fit, TypeError for dtypes.
    """
    op = "mixture_nll_loss"
    check_reduction(reduction, op)
    x, m = floating_operand(logits, op, "logits"), floating_operand(means, op, "means")
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"[{op}] expected logits of shape (N, K) with K > 0, got {x.shape}")
    if m.ndim != 3 or m.shape[:2] != x.shape:
        raise ValueError(f"[{op}] expected means of shape (N, K, D) for logits of shape {x.shape}, got {m.shape}")
    (rows, _, cols), dtype = m.shape, x.dtype
    if m.dtype is not dtype:
        raise TypeError(f"[{op}] expected means of the dtype of logits, {dtype}, got {m.dtype}")
    stds = floating_operand(log_stds, op, "log_stds")
    if stds.dtype is not dtype:
        raise TypeError(f"[{op}] expected log_stds of the dtype of logits, {dtype}, got {stds.dtype}")
    stds = operand_of(stds, m.shape, dtype, op, "log_stds")
    t = operand_of(target, (rows, cols), dtype, op, "target")
    s = weights_of(sample_weight, (rows,), dtype, op)
    inputs = (x, m, stds, t, s)
    loss = Fused(op, "mixture_nll_forward", (), functools.partial(_mixture, reduction), inputs, (0, 1, 2))
    reads = [None if each is None else buffer_of(each, each.shape) for each in inputs]
    return run(loss, reads, denominator_of(dtype, reduction, s, rows, 1), (rows,), reduction)
