"""Rules of losses of classes and of those with several gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.kernels.reference.loss import LEAST_LOG_STD
from fastbp.kernels.tolerance.rules import LANES, exponent_error, roundings, rule


def weights_of(sample_weight: Any, rows: int) -> np.ndarray:
    return np.ones(rows) if sample_weight is None else np.abs(sample_weight)


def cross_entropy_error(logits: Any, q: Any, s: Any, denominator: Any, output: str, eps: float) -> Any:
    """Loss s·Σ q·(−log p) and gradient s·(p·Σ q − q)/denominator, with q ≥ 0 the weighted target."""
    adds = roundings(logits.shape[1], eps, LANES)
    shifted = logits - np.max(logits, axis=1, keepdims=True, initial=-np.inf)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    error = exponent_error(logits, 1, eps, adds)
    if output == "losses":
        terms = np.where(q == 0, 0, np.abs(q) * (error + (adds + 4 * eps) * np.abs(logp)))
        return s * np.sum(terms, axis=1) + s * eps * np.sum(np.where(q == 0, 0, np.abs(q * logits)), axis=1)
    total = np.sum(np.abs(q), axis=1, keepdims=True)
    return s[:, None] / np.abs(denominator) * (total * np.exp(logp) * (error + adds + 8 * eps) + 8 * eps * np.abs(q))


@rule("cross_entropy_forward")
def _(
    logits: Any, target: Any, class_weight: Any, sample_weight: Any, denominator: Any, ignore_index: int,
    label_smoothing: float, output: str, eps: float,
) -> Any:  # fmt: skip
    rows, cols = logits.shape
    v = np.ones(cols) if class_weight is None else class_weight
    kept = target != ignore_index
    one_hot = np.arange(cols) == np.where(kept, target, 0)[:, None]
    q = kept[:, None] * v * ((1 - label_smoothing) * one_hot + label_smoothing / max(cols, 1))
    return cross_entropy_error(logits, q, weights_of(sample_weight, rows), denominator, output, eps)


@rule("cross_entropy_probabilities_forward")
def _(
    logits: Any, target: Any, class_weight: Any, sample_weight: Any, denominator: Any, label_smoothing: float,
    output: str, eps: float,
) -> Any:  # fmt: skip
    rows, cols = logits.shape
    v = np.ones(cols) if class_weight is None else class_weight
    q = v * ((1 - label_smoothing) * target + label_smoothing / max(cols, 1))
    return cross_entropy_error(logits, q, weights_of(sample_weight, rows), denominator, output, eps)


@rule("cross_entropy_denominator")
def _(target: Any, class_weight: Any, sample_weight: Any, ignore_index: int, expected: Any, eps: float) -> Any:
    return (roundings(target.size, eps, LANES) + 2 * eps) * np.abs(expected)


@rule("nll_forward")
def _(sample_weight: Any, expected: Any, eps: float) -> Any:
    return 2 * eps * np.abs(expected)  # products of three numbers, or of two by a third


@rule("gaussian_nll_forward")
def _(
    x: Any, target: Any, var: Any, sample_weight: Any, denominator: Any, floor: float, full: float, output: str,
    eps: float,
) -> Any:  # fmt: skip
    s = weights_of(sample_weight, x.shape[0])
    v = np.maximum(var, floor)
    square = np.square(x - target) / v
    if output == "losses":
        terms = 0.5 * (np.abs(np.log(v)) + square) + (full != 0)
        return s * (roundings(x.shape[1], eps, LANES) + 6 * eps) * np.sum(terms, axis=1)
    gradient = np.abs(x - target) / v if output == "dx" else 0.5 * (1 + square) / v
    return s[:, None] / np.abs(denominator) * 6 * eps * gradient


@rule("mixture_nll_forward")
def _(
    logits: Any, means: Any, log_stds: Any, target: Any, sample_weight: Any, denominator: Any, output: str,
    expected: Any, eps: float,
) -> Any:  # fmt: skip
    s = weights_of(sample_weight, logits.shape[0])
    log_stds = np.maximum(log_stds, LEAST_LOG_STD[expected.itemsize])
    components, cols = means.shape[1:]
    z = (target[:, None, :] - means) * np.exp(-log_stds)  # with four roundings, twice as many in its square
    terms = 0.5 * z * z + np.abs(log_stds)
    score = logits - np.sum(0.5 * z * z + log_stds, axis=2)
    error = (roundings(cols, eps, LANES) + 8 * eps) * np.sum(terms, axis=2) + eps * (np.abs(score) + np.abs(logits))
    prior, joint = softmax_of(logits), softmax_of(score)
    adds = roundings(components, eps, LANES)
    # Of log Σ e^a an error of a_k is worth that of its share; of the shares it is relative.
    total = np.sum(part(joint, error), axis=1, keepdims=True)
    prior_part = part(prior, exponent_error(logits, 1, eps, adds) + 8 * eps)
    joint_part = part(joint, exponent_error(score, 1, eps, adds) + error + total + 8 * eps)
    if output == "losses":
        sizes = np.abs(np.max(logits, axis=1, initial=-np.inf)) + np.abs(np.max(score, axis=1, initial=-np.inf)) + cols
        return s * (np.sum(prior_part + joint_part, axis=1) + 4 * eps * sizes)
    if output == "dlogits":
        return s[:, None] / np.abs(denominator) * (prior_part + joint_part)
    gradient = np.abs(z) * np.exp(-log_stds) if output == "dmeans" else 1 + z * z
    return (s[:, None] / np.abs(denominator) * joint_part)[:, :, None] * gradient


def part(share: Any, error: Any) -> Any:
    """The error's part in a sum; none where there is no share."""
    return np.where(share == 0, 0, share * error)


def softmax_of(x: Any) -> Any:
    powers = np.exp(x - np.max(x, axis=1, keepdims=True, initial=-np.inf))
    return powers / np.sum(powers, axis=1, keepdims=True)


@rule("cosine_embedding_forward")
def _(a: Any, b: Any, target: Any, sample_weight: Any, denominator: Any, margin: float, output: str, eps: float) -> Any:
    s = weights_of(sample_weight, a.shape[0])
    adds = roundings(a.shape[1], eps, LANES) + 6 * eps
    square_a, square_b = (np.sum(np.square(m), axis=1, keepdims=True) + 1e-12 for m in (a, b))
    size = np.sqrt(square_a * square_b)
    cosine = np.sum(np.abs(a * b), axis=1, keepdims=True) / size  # that of the absolute terms, at most 1
    if output == "losses":
        return s * (2 * adds * cosine + 2 * eps * (1 + np.abs(margin)))[:, 0]
    own, other, square = (a, b, square_a) if output == "da" else (b, a, square_b)
    terms = adds * np.abs(other) / size + 3 * adds * cosine * np.abs(own) / square
    return (s / np.abs(denominator))[:, None] * terms
