"""Losses: one pass over the rows gives the loss of every row and the gradient.

losses (rows,) are weighted but not divided; gradients are divided by `denominator`, a tensor of one element, so that
the mean loss is Σ losses / denominator. Without a gradient operand only the losses are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels.facts import kernel
from fastbp.kernels.reference.elementwise import COSTLY, sigmoid, softplus
from fastbp.kernels.reference.softmax import log_softmax, softmax


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
        dx[...] = weight[:, None] * gradient / denominator.astype(np.float64)


@kernel(
    inputs="logits target class_weight? sample_weight? denominator",
    outputs="losses dlogits?",
    whole="class_weight denominator",
    partition="rows",
    operations=lambda logits, **_: COSTLY * logits.size,
)
def cross_entropy_forward(
    logits: np.ndarray,
    target: np.ndarray,
    class_weight: np.ndarray | None,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    ignore_index: int,
    label_smoothing: float,
    losses: np.ndarray,
    dlogits: np.ndarray | None,
) -> None:
    """Softmax cross-entropy with class indices: logits (rows, cols), target int64 (rows,), class_weight v (cols,),
    sample_weight s (rows,). With p = softmax(logits), t = target[i], ε = label_smoothing:

        losses[i] = s_i·((1 − ε)·v_t·(−log p_it) + ε/cols·Σ_j v_j·(−log p_ij))
        dlogits[i, j] = s_i·((1 − ε)·v_t·(p_ij − δ_jt) + ε/cols·(p_ij·Σ_k v_k − v_j))/denominator

    The sums with ε are left out where ε = 0; a row with target = ignore_index has loss and gradient +0. As PyTorch.
    """
    cols = logits.shape[1]
    kept = target != ignore_index
    if np.any(kept & ((target < 0) | (target >= cols))):
        raise IndexError(
            f"[cross_entropy_forward] expected target classes from 0 to {cols - 1} or ignore_index {ignore_index}"
        )
    index = np.where(kept, target, 0)[:, None]
    v = np.ones(cols) if class_weight is None else class_weight.astype(np.float64)
    logp, p = log_softmax(logits), softmax(logits)
    one_hot = np.arange(cols) == index
    loss = (1 - label_smoothing) * v[index] * -np.take_along_axis(logp, index, axis=1)
    gradient = (1 - label_smoothing) * v[index] * (p - one_hot)
    if label_smoothing > 0:
        loss = loss + label_smoothing / cols * np.sum(v * -logp, axis=1, keepdims=True)
        gradient = gradient + label_smoothing / cols * (p * np.sum(v) - v)
    write(loss[:, 0], gradient, sample_weight, denominator, losses, dlogits)
    losses[~kept] = 0
    if dlogits is not None:
        dlogits[~kept] = 0


@kernel(
    inputs="logits target class_weight? sample_weight? denominator",
    outputs="losses dlogits?",
    whole="class_weight denominator",
    partition="rows",
    operations=lambda logits, **_: COSTLY * logits.size,
)
def cross_entropy_probabilities_forward(
    logits: np.ndarray,
    target: np.ndarray,
    class_weight: np.ndarray | None,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    label_smoothing: float,
    losses: np.ndarray,
    dlogits: np.ndarray | None,
) -> None:
    """Softmax cross-entropy with class probabilities: logits and target (rows, cols), class_weight v (cols,),
    sample_weight s (rows,). With p = softmax(logits) and q_j = v_j·((1 − ε)·target_ij + ε/cols):

        losses[i] = s_i·Σ_j q_j·(−log p_ij),   dlogits[i, j] = s_i·(p_ij·Σ_k q_k − q_j)/denominator
    """
    cols = logits.shape[1]
    v = np.ones(cols) if class_weight is None else class_weight.astype(np.float64)
    q = v * ((1 - label_smoothing) * target.astype(np.float64) + label_smoothing / max(cols, 1))
    loss = np.sum(q * -log_softmax(logits), axis=1)
    gradient = softmax(logits) * np.sum(q, axis=1, keepdims=True) - q
    write(loss, gradient, sample_weight, denominator, losses, dlogits)


@kernel(
    inputs="target class_weight? sample_weight?",
    outputs="y",
    partition="none",
    operations=lambda target, **_: target.size,
)
def cross_entropy_denominator(
    target: np.ndarray,
    class_weight: np.ndarray | None,
    sample_weight: np.ndarray | None,
    ignore_index: int,
    y: np.ndarray,
) -> None:
    """y[0] = Σ_i sample_weight[i]·class_weight[target[i]] over the targets that are not ignore_index; an absent weight
    is 1: target int64 (rows,), y (1,)."""
    kept = target != ignore_index
    v = 1.0 if class_weight is None else class_weight.astype(np.float64)[target[kept]]
    s = 1.0 if sample_weight is None else sample_weight.astype(np.float64)[kept]
    y[...] = np.sum(np.ones(np.count_nonzero(kept)) * s * v)


def element_loss(name: str, equation: str, function: Callable[..., Any], cost: int = 4) -> None:
    """Define the kernel <name>_forward; `function(x, t, v)` gives loss and derivative of every element in float64."""

    def body(
        x: np.ndarray,
        target: np.ndarray,
        pos_weight: np.ndarray | None,
        sample_weight: np.ndarray | None,
        denominator: np.ndarray,
        losses: np.ndarray,
        dx: np.ndarray | None,
    ) -> None:
        v = np.float64(1) if pos_weight is None else pos_weight.astype(np.float64)
        loss, gradient = function(x.astype(np.float64), target.astype(np.float64), v)
        write(np.sum(loss, axis=1), gradient, sample_weight, denominator, losses, dx)

    body.__name__ = body.__qualname__ = f"{name}_forward"
    body.__doc__ = (
        f"losses[i] = sample_weight[i]·Σ_j l(x_ij, t_ij), dx = sample_weight·l'/denominator, with {equation}. "
        "x, target, dx (rows, cols), pos_weight v (cols,), sample_weight and losses (rows,)."
    )
    globals()[body.__name__] = kernel(
        inputs="x target pos_weight? sample_weight? denominator",
        outputs="losses dx?",
        whole="pos_weight denominator",
        partition="rows",
        operations=lambda x, **_: cost * x.size,
    )(body)


def binary_cross_entropy(x: Any, t: Any, v: Any) -> tuple[Any, Any]:
    loss = -t * np.maximum(np.log(x), -100) - (1 - t) * np.maximum(np.log1p(-x), -100)
    return loss, (x - t) / np.maximum(x * (1 - x), 1e-12)


def sigmoid_cross_entropy(x: Any, t: Any, v: Any) -> tuple[Any, Any]:
    return (1 - t) * softplus(x) + v * t * softplus(-x), (1 - t) * sigmoid(x) - v * t * sigmoid(-x)


element_loss("mse", "l = (x − t)²", lambda x, t, v: (np.square(x - t), 2 * (x - t)))
element_loss("l1", "l = |x − t|, l' = 0 where x = t", lambda x, t, v: (np.abs(x - t), np.sign(x - t)))
element_loss(
    "binary_cross_entropy",
    "l = −t·log x − (1 − t)·log(1 − x), logarithms at least −100, l' = (x − t)/max(x·(1 − x), 1e-12)",
    binary_cross_entropy,
    2 * COSTLY,
)
element_loss(
    "sigmoid_cross_entropy",
    "l = (1 − t)·log(1 + e^x) + v·t·log(1 + e^−x), l' = (1 − t)·sigmoid(x) − v·t·sigmoid(−x)",
    sigmoid_cross_entropy,
    2 * COSTLY,
)
