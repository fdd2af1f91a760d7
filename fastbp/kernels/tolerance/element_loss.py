"""Rules of losses that are sums over elements, by one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels.facts import parameters_of
from fastbp.kernels.reference import elementwise
from fastbp.kernels.tolerance.loss import weights_of
from fastbp.kernels.tolerance.rules import LANES, RULES, roundings

Terms = tuple[Any, Any]


def element_loss_rule(terms: Callable[..., Terms]) -> Callable[..., Any]:
    """`terms(x, t, p, constants...)` gives the sums of the absolute terms of the loss and of the derivative of an
    element, in which no term has more than a dozen roundings."""

    def bound(
        x: Any,
        target: Any,
        coefficient: Any,
        sample_weight: Any,
        denominator: Any,
        output: str,
        eps: float,
        **constants: float,
    ) -> Any:
        s = weights_of(sample_weight, x.shape[0])
        loss, gradient = terms(x, target, 1.0 if coefficient is None else coefficient, **constants)
        if output == "losses":
            return s * (roundings(x.shape[1], eps, LANES) + 6 * eps) * np.sum(loss, axis=1)
        return s[:, None] / np.abs(denominator) * 6 * eps * gradient

    operands = ("x", "target", "coefficient", "sample_weight", "denominator", "output", "eps")
    bound.parameters = (*operands, *parameters_of(terms)[3:])  # type: ignore[attr-defined]
    return bound


def smooth_l1(x: Any, t: Any, p: Any, beta: float) -> Terms:
    size = np.abs(x - t)
    return np.where(size < beta, 0.5 * size * size / beta, size + 0.5 * beta), np.where(size < beta, size / beta, 1)


def huber(x: Any, t: Any, p: Any, delta: float) -> Terms:
    size = np.abs(x - t)
    return np.where(size < delta, 0.5 * size * size, delta * (size + 0.5 * delta)), np.minimum(size, delta)


def binary_cross_entropy(x: Any, t: Any, p: Any) -> Terms:
    loss = np.abs(t * np.maximum(np.log(x), -100)) + np.abs((1 - t) * np.maximum(np.log1p(-x), -100))
    return loss, np.abs(x - t) / np.maximum(x * (1 - x), 1e-12)


def sigmoid_cross_entropy(x: Any, t: Any, p: Any) -> Terms:
    positive = np.abs(1 - t) + np.abs(p * t)
    return positive * (np.abs(x) + elementwise.softplus(-np.abs(x))), positive


def sigmoid_focal(x: Any, t: Any, p: Any, alpha: float, gamma: float) -> Terms:
    # An error of q = t·σ(−x) + (1 − t)·σ(x) is one of q^γ, γ times as large.
    up, down = elementwise.sigmoid(x), elementwise.sigmoid(-x)
    ce = np.abs(1 - t) * elementwise.softplus(x) + np.abs(t) * elementwise.softplus(-x)
    q = np.abs(1 - t) * up + np.abs(t) * down
    tilt = np.where(q == 0, 0, np.abs(1 - 2 * t) * up * down / q)
    scale = (1 + gamma) * q**gamma * (np.abs(alpha * t) + np.abs((1 - alpha) * (1 - t)) if alpha >= 0 else 1.0)
    return scale * ce, scale * (q + gamma * ce * tilt)


def stirling(t: Any) -> Any:
    return np.where(t > 1, (t + 0.5) * np.log(t) + t + 1, 0)


def poisson_nll(x: Any, t: Any, p: Any, offset: float, full: float) -> Terms:
    # Rounding x + offset by u changes its logarithm by u, however small that is.
    rate = np.abs(x + offset)
    loss = np.abs(x) + np.abs(t) * (1 + np.abs(np.log(rate))) + (stirling(t) if full else 0)
    return loss, 1 + np.abs(t) / rate


def poisson_log_nll(x: Any, t: Any, p: Any, full: float) -> Terms:
    return np.exp(x) + np.abs(t * x) + (stirling(t) if full else 0), np.exp(x) + np.abs(t)


def kl_div(x: Any, t: Any, p: Any) -> Terms:
    return np.where(t == 0, 0, np.abs(t * np.log(t))) + np.abs(t * x), np.abs(t)


def hinge_embedding(x: Any, t: Any, p: Any, margin: float) -> Terms:
    return np.abs(x) + np.abs(margin - x), 2.0 + 0 * x


_TERMS: dict[str, Callable[..., Terms]] = {
    "mse": lambda x, t, p: (np.square(x - t), 2 * np.abs(x - t)),
    "l1": lambda x, t, p: (np.abs(x - t), np.abs(np.sign(x - t))),
    "huber": huber,
    "smooth_l1": smooth_l1,
    "quantile": lambda x, t, p: (np.maximum(p, 1 - p) * np.abs(t - x), np.ones_like(x)),
    "binary_cross_entropy": binary_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "sigmoid_focal": sigmoid_focal,
    "hinge": lambda x, t, p: (1 + np.abs(t * x), np.abs(t)),
    "hinge_embedding": hinge_embedding,
    "poisson_nll": poisson_nll,
    "poisson_log_nll": poisson_log_nll,
    "kl_div": kl_div,
    "kl_log_div": lambda x, t, p: (np.exp(t) * np.abs(t - x), np.exp(t)),
}
for _name, _terms in _TERMS.items():
    RULES[f"{_name}_forward"] = element_loss_rule(_terms)
