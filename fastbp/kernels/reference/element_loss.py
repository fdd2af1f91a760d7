"""Losses that are sums over elements, one call of `element_loss` each. The kernels are those of losses: see loss.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels.facts import kernel, parameters_of
from fastbp.kernels.reference.elementwise import COSTLY, sigmoid, softplus
from fastbp.kernels.reference.loss import HALF_LOG_2PI, write

Loss = tuple[Any, Any]


def element_loss(name: str, equation: str, function: Callable[..., Loss], cost: int = 4) -> None:
    """Define the kernel <name>_forward(x, target, coefficient, sample_weight, denominator, constants..., losses, dx).

    `function(x, t, p)` gives loss and derivative of every element in float64; further parameters of it are by-value
    constants, rounded to the type of the operands.
    """
    constants = parameters_of(function)[3:]
    inputs = ("x", "target", "coefficient", "sample_weight", "denominator")

    def body(
        x: np.ndarray,
        target: np.ndarray,
        coefficient: np.ndarray | None,
        sample_weight: np.ndarray | None,
        denominator: np.ndarray,
        *rest: Any,
    ) -> None:
        *values, losses, dx = rest
        p = np.float64(1) if coefficient is None else coefficient.astype(np.float64)
        values = [np.float64(x.dtype.type(value)) for value in values]
        loss, gradient = function(x.astype(np.float64), target.astype(np.float64), p, *values)
        write(np.sum(loss, axis=1), gradient, sample_weight, denominator, losses, dx)

    body.__name__ = body.__qualname__ = f"{name}_forward"
    body.__doc__ = (
        f"losses[i] = sample_weight[i]·Σ_j l(x_ij, t_ij), dx = sample_weight·l'/denominator, with {equation}. "
        "x, target, dx (rows, cols), coefficient p (cols,) or (rows, cols), sample_weight and losses (rows,)."
    )
    body.parameters = (*inputs, *constants, "losses", "dx")  # type: ignore[attr-defined]
    globals()[body.__name__] = kernel(
        inputs="x target coefficient? sample_weight? denominator",
        outputs="losses dx?",
        whole="coefficient denominator",
        partition="rows",
        operations=lambda x, **_: cost * x.size,
    )(body)


def huber(x: Any, t: Any, p: Any, delta: float) -> Loss:
    d = x - t
    return np.where(np.abs(d) < delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta)), np.clip(d, -delta, delta)


def smooth_l1(x: Any, t: Any, p: Any, beta: float) -> Loss:
    d = x - t
    near = np.abs(d) < beta
    return np.where(near, 0.5 * d * d / beta, np.abs(d) - 0.5 * beta), np.where(near, d / beta, np.sign(d))


def quantile(x: Any, t: Any, p: Any) -> Loss:
    d = t - x
    slope = np.where(d > 0, -p, np.where(d < 0, 1 - p, np.where(d == 0, 0.5 - p, d)))
    return np.where(d < 0, (p - 1) * d, p * d), slope


def binary_cross_entropy(x: Any, t: Any, p: Any) -> Loss:
    loss = -t * np.maximum(np.log(x), -100) - (1 - t) * np.maximum(np.log1p(-x), -100)
    return loss, (x - t) / np.maximum(x * (1 - x), 1e-12)


def sigmoid_cross_entropy(x: Any, t: Any, p: Any) -> Loss:
    return (1 - t) * softplus(x) + p * t * softplus(-x), (1 - t) * sigmoid(x) - p * t * sigmoid(-x)


def sigmoid_focal(x: Any, t: Any, p: Any, alpha: float, gamma: float) -> Loss:
    loss, slope = sigmoid_cross_entropy(x, t, 1.0)
    q = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    tilt = np.where(q == 0, 0, (1 - 2 * t) * sigmoid(x) * sigmoid(-x) / q)
    scale = np.power(q, gamma) * (alpha * t + (1 - alpha) * (1 - t) if alpha >= 0 else 1.0)
    return scale * loss, scale * (slope + gamma * loss * tilt)


def hinge(x: Any, t: Any, p: Any) -> Loss:
    rest = 1 - t * x
    return np.where(rest <= 0, 0, rest), np.where(rest <= 0, 0, -t)


def hinge_embedding(x: Any, t: Any, p: Any, margin: float) -> Loss:
    alike, unlike = t != -1, t != 1
    loss = np.where(alike, x, 0) + np.where(unlike, np.maximum(margin - x, 0), 0)
    return loss, np.where(alike, 1.0, 0) - np.where(unlike & (margin - x >= 0), 1.0, 0)


def stirling(t: Any) -> Any:
    """log t! by Stirling's formula where t > 1, else 0."""
    return np.where(t > 1, (t + 0.5) * np.log(t) - t + HALF_LOG_2PI, 0)


def poisson_nll(x: Any, t: Any, p: Any, offset: float, full: float) -> Loss:
    return x - t * np.log(x + offset) + (stirling(t) if full else 0), 1 - t / (x + offset)


def poisson_log_nll(x: Any, t: Any, p: Any, full: float) -> Loss:
    return np.exp(x) - t * x + (stirling(t) if full else 0), np.exp(x) - t


def kl_div(x: Any, t: Any, p: Any) -> Loss:
    return np.where(t == 0, 0, t * np.log(t)) - t * x, -t


def kl_log_div(x: Any, t: Any, p: Any) -> Loss:
    return np.exp(t) * (t - x), -np.exp(t)


element_loss("mse", "l = (x − t)²", lambda x, t, p: (np.square(x - t), 2 * (x - t)))
element_loss("l1", "l = |x − t|, l' = 0 where x = t", lambda x, t, p: (np.abs(x - t), np.sign(x - t)))
element_loss("huber", "l = d²/2 where |d| < delta, else delta·(|d| − delta/2), d = x − t", huber)
element_loss("smooth_l1", "l = d²/(2·beta) where |d| < beta, else |d| − beta/2, d = x − t", smooth_l1)
element_loss("quantile", "l = max(p·d, (p − 1)·d), d = t − x, l' = 1/2 − p where d = 0", quantile)
element_loss(
    "binary_cross_entropy",
    "l = −t·log x − (1 − t)·log(1 − x), logarithms at least −100, l' = (x − t)/max(x·(1 − x), 1e-12)",
    binary_cross_entropy,
    2 * COSTLY,
)
element_loss(
    "sigmoid_cross_entropy",
    "l = (1 − t)·log(1 + e^x) + p·t·log(1 + e^−x), l' = (1 − t)·sigmoid(x) − p·t·sigmoid(−x)",
    sigmoid_cross_entropy,
    2 * COSTLY,
)
element_loss(
    "sigmoid_focal",
    "l = a·q^gamma·((1 − t)·log(1 + e^x) + t·log(1 + e^−x)), q = t·sigmoid(−x) + (1 − t)·sigmoid(x), "
    "a = alpha·t + (1 − alpha)·(1 − t), or 1 where alpha < 0",
    sigmoid_focal,
    6 * COSTLY,
)
element_loss("hinge", "l = max(0, 1 − t·x), l' = 0 where t·x = 1", hinge)
element_loss("hinge_embedding", "l = x where t ≠ −1, plus max(0, margin − x) where t ≠ 1", hinge_embedding)
element_loss(
    "poisson_nll",
    "l = x − t·log(x + offset), and (t + 1/2)·log t − t + log(2π)/2 where `full` is not 0 and t > 1",
    poisson_nll,
    2 * COSTLY,
)
element_loss(
    "poisson_log_nll",
    "l = e^x − t·x, and (t + 1/2)·log t − t + log(2π)/2 where `full` is not 0 and t > 1",
    poisson_log_nll,
    2 * COSTLY,
)
element_loss("kl_div", "l = t·log t − t·x, t·log t = 0 where t = 0", kl_div, COSTLY)
element_loss("kl_log_div", "l = e^t·(t − x)", kl_log_div, COSTLY)
