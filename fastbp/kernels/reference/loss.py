"""Losses: one pass over the rows gives the loss of every row and the gradients.

losses (rows,) are weighted but not divided; gradients are divided by `denominator`, a tensor of one element, so that
the mean loss is Σ losses / denominator. Of a gradient without an operand nothing is computed. Losses that are sums over
elements are in element_loss.py, those of classes in cross_entropy.py; here are those with several gradients.
"""

from __future__ import annotations

import math

import numpy as np

from fastbp.kernels.facts import kernel
from fastbp.kernels.reference.elementwise import COSTLY
from fastbp.kernels.reference.softmax import softmax

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# −⌊ln of the largest number⌋, by itemsize: the least logarithm of a deviation whose inverse is a number.
LEAST_LOG_STD = {4: -88.0, 8: -709.0}


def write(
    loss: np.ndarray,
    gradient: np.ndarray,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    losses: np.ndarray,
    dx: np.ndarray | None,
) -> None:
    """losses = weight·loss and dx = weight·gradient/denominator, with weights of 1 where there are none."""
    weight = np.ones(len(loss)) if sample_weight is None else sample_weight.astype(np.float64)
    losses[...] = weight * loss
    if dx is not None:
        dx[...] = weight.reshape(-1, *[1] * (dx.ndim - 1)) * gradient / denominator.astype(np.float64)


@kernel(
    inputs="x target var sample_weight? denominator",
    outputs="losses dx? dvar?",
    whole="denominator",
    partition="rows",
    operations=lambda x, **_: 2 * COSTLY * x.size,
)
def gaussian_nll_forward(
    x: np.ndarray,
    target: np.ndarray,
    var: np.ndarray,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    floor: float,
    full: float,
    losses: np.ndarray,
    dx: np.ndarray | None,
    dvar: np.ndarray | None,
) -> None:
    """Likelihood of targets under normal distributions of mean x and variance var, all (rows, cols). With
    v = max(var, floor) and d = x − target:

        losses[i] = s_i·Σ_j (log v + d²/v)/2, and log(2π)/2 in each term where `full` is not 0
        dx = s·d/v/denominator,   dvar = s·(1 − d²/v)/(2v)/denominator

    sample_weight s and losses (rows,). The gradient of v is that of var, as in PyTorch.
    """
    d, v = x.astype(np.float64) - target, var.astype(np.float64)
    floor = np.float64(x.dtype.type(floor))
    v = np.where(v < floor, floor, v)
    loss = 0.5 * (np.log(v) + d * d / v) + (HALF_LOG_2PI if full else 0.0)
    write(np.sum(loss, axis=1), d / v, sample_weight, denominator, losses, dx)
    write(np.sum(loss, axis=1), 0.5 * (1 - d * d / v) / v, sample_weight, denominator, losses, dvar)


@kernel(
    inputs="logits means log_stds target sample_weight? denominator",
    outputs="losses dlogits? dmeans? dlog_stds?",
    whole="denominator",
    partition="rows",
    operations=lambda means, **_: 2 * COSTLY * means.size,
)
def mixture_nll_forward(
    logits: np.ndarray,
    means: np.ndarray,
    log_stds: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    losses: np.ndarray,
    dlogits: np.ndarray | None,
    dmeans: np.ndarray | None,
    dlog_stds: np.ndarray | None,
) -> None:
    """Likelihood of targets (rows, cols) under mixtures of normal distributions: logits (rows, components), means μ and
    log_stds (rows, components, cols), sample_weight s and losses (rows,). With λ = log_stds, at least −88 in float32
    and −709 in float64, z = (t − μ)·e^−λ, π = softmax(logits) and γ = softmax_k(logits_k − Σ_d (z²/2 + λ)), over the
    components k and cols d of a row:

        losses[i] = s_i·(log Σ_k e^logits_k − log Σ_k e^(logits_k − Σ_d (z²/2 + λ)) + cols·log(2π)/2)
        dlogits = s·(π − γ)/denominator,   dmeans = −s·γ·z·e^−λ/denominator,   dlog_stds = s·γ·(1 − z²)/denominator

    Where γ is 0 so are dmeans and dlog_stds, however large z; all gradients are 0 where losses[i] is beyond the largest
    number. C. M. Bishop, Mixture Density Networks, 1994.
    """
    log_stds = np.maximum(log_stds.astype(np.float64), LEAST_LOG_STD[logits.itemsize])
    prior, inverse = logits.astype(np.float64), np.exp(-log_stds)
    z = (target[:, None, :] - means.astype(np.float64)) * inverse
    joint = prior - np.sum(0.5 * z * z + log_stds, axis=2)
    loss = logsumexp(prior) - logsumexp(joint) + target.shape[1] * HALF_LOG_2PI
    out_of_range = loss.astype(logits.dtype)[:, None] == np.inf
    share = np.where(out_of_range, 0, softmax(joint))
    write(loss, np.where(out_of_range, 0, softmax(prior) - share), sample_weight, denominator, losses, dlogits)
    share = share[:, :, None]
    write(loss, np.where(share == 0, 0, -share * z * inverse), sample_weight, denominator, losses, dmeans)
    write(loss, np.where(share == 0, 0, share * (1 - z * z)), sample_weight, denominator, losses, dlog_stds)


def logsumexp(x: np.ndarray) -> np.ndarray:
    """log Σ e^x of every row, computed after taking away the maximum where that is not −∞; NaN where it is +∞."""
    m = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    m = np.where(m == -np.inf, 0, m)
    return np.asarray(m + np.log(np.sum(np.exp(x - m), axis=1, keepdims=True)))[:, 0]


@kernel(
    inputs="a b target sample_weight? denominator",
    outputs="losses da? db?",
    whole="denominator",
    partition="rows",
    operations=lambda a, **_: 10 * a.size,
)
def cosine_embedding_forward(
    a: np.ndarray,
    b: np.ndarray,
    target: np.ndarray,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    margin: float,
    losses: np.ndarray,
    da: np.ndarray | None,
    db: np.ndarray | None,
) -> None:
    """Losses of pairs of rows of a and b (rows, cols) by the cosine between them,
    c = a·b/√((a·a + 1e-12)·(b·b + 1e-12)); target, sample_weight s and losses (rows,).

        losses[i] = s_i·(1 − c) where target = 1, s_i·max(0, c − margin) where target = −1, else 0
        da = s·slope·(b/√(…) − c·a/(a·a + 1e-12))/denominator, slope −1, 1 or 0, and db with a and b exchanged
    """
    wide_a, wide_b, margin = a.astype(np.float64), b.astype(np.float64), np.float64(a.dtype.type(margin))
    square_a = np.sum(wide_a * wide_a, axis=1, keepdims=True) + 1e-12
    square_b = np.sum(wide_b * wide_b, axis=1, keepdims=True) + 1e-12
    size = np.sqrt(square_a) * np.sqrt(square_b)
    c = np.sum(wide_a * wide_b, axis=1, keepdims=True) / size
    alike, unlike = target[:, None] == 1, (target[:, None] == -1) & ~(c < margin)
    loss = np.where(alike, 1 - c, np.where(unlike, c - margin, 0))[:, 0]
    slope = np.where(alike, -1.0, np.where(unlike, 1.0, 0.0))
    write(loss, slope * (wide_b / size - c * wide_a / square_a), sample_weight, denominator, losses, da)
    write(loss, slope * (wide_a / size - c * wide_b / square_b), sample_weight, denominator, losses, db)
