"""Rules of softmax and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels.reference import elementwise
from fastbp.kernels.tolerance.rules import LANES, RULES, exponent_error, roundings, rule


@rule("softmax_forward")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return exponent_error(x, 1, eps, roundings(x.shape[1], eps, LANES)) * expected


@rule("log_softmax_forward")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return exponent_error(x, 1, eps, roundings(x.shape[1], eps, LANES)) + eps * (np.abs(expected) + np.abs(x))


@rule("softmax_backward")
def _(dy: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    total = np.sum(np.abs(dy * y), axis=1, keepdims=True)
    return np.abs(y) * (4 * eps * np.abs(dy) + (roundings(y.shape[1], eps, LANES) + 4 * eps) * total)


@rule("log_softmax_backward")
def _(dy: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    total = np.sum(np.abs(dy), axis=1, keepdims=True)
    return 2 * eps * np.abs(dy) + (roundings(y.shape[1], eps, LANES) + 4 * eps) * np.exp(y) * total


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


def element_loss_rule(terms: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """`terms(x, t, v)` gives the sums of the absolute terms of the loss and of the derivative of an element."""

    def bound(
        x: Any, target: Any, pos_weight: Any, sample_weight: Any, denominator: Any, output: str, eps: float
    ) -> Any:
        s = weights_of(sample_weight, x.shape[0])
        loss, gradient = terms(x, target, 1.0 if pos_weight is None else np.abs(pos_weight))
        if output == "losses":
            return s * (roundings(x.shape[1], eps, LANES) + 6 * eps) * np.sum(loss, axis=1)
        return s[:, None] / np.abs(denominator) * 6 * eps * gradient

    return bound


def binary_cross_entropy_terms(x: Any, t: Any, v: Any) -> tuple[Any, Any]:
    loss = np.abs(t * np.maximum(np.log(x), -100)) + np.abs((1 - t) * np.maximum(np.log1p(-x), -100))
    return loss, np.abs(x - t) / np.maximum(x * (1 - x), 1e-12)


def sigmoid_cross_entropy_terms(x: Any, t: Any, v: Any) -> tuple[Any, Any]:
    positive = np.abs(1 - t) + v * np.abs(t)
    return positive * (np.abs(x) + elementwise.softplus(-np.abs(x))), positive


RULES["mse_forward"] = element_loss_rule(lambda x, t, v: (np.square(x - t), 2 * np.abs(x - t)))
RULES["l1_forward"] = element_loss_rule(lambda x, t, v: (np.abs(x - t), np.abs(np.sign(x - t))))
RULES["binary_cross_entropy_forward"] = element_loss_rule(binary_cross_entropy_terms)
RULES["sigmoid_cross_entropy_forward"] = element_loss_rule(sigmoid_cross_entropy_terms)
