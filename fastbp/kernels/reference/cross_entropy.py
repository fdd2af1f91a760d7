"""Losses of classes: softmax cross-entropy with class indices or probabilities, and negative log-likelihood.

The kernels are those of losses: see loss.py.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.facts import kernel
from fastbp.kernels.reference.elementwise import COSTLY
from fastbp.kernels.reference.loss import write
from fastbp.kernels.reference.softmax import log_softmax, softmax


def kept_classes(op: str, target: np.ndarray, classes: int, ignore_index: int) -> np.ndarray:
    """Where a target is not ignored. IndexError where it is then no class."""
    kept = target != ignore_index
    bad = target[kept & ((target < 0) | (target >= classes))]
    if bad.size:
        wanted = f"target classes from 0 to {classes - 1} or ignore_index {ignore_index}"
        raise IndexError(f"[{op}] expected {wanted}, got {bad[0]}")
    return np.asarray(kept)


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
    kept = kept_classes("cross_entropy_forward", target, cols, ignore_index)
    v = np.ones(cols) if class_weight is None else class_weight.astype(np.float64)
    logp, p = log_softmax(logits), softmax(logits)
    one_hot = np.arange(cols) == np.where(kept, target, 0)[:, None]
    loss = (1 - label_smoothing) * np.sum(np.where(one_hot, v * -logp, 0), axis=1, keepdims=True)
    gradient = (1 - label_smoothing) * np.sum(np.where(one_hot, v, 0), axis=1, keepdims=True) * (p - one_hot)
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
    kept, v = target != ignore_index, 1.0
    if class_weight is not None:
        kept = kept_classes("cross_entropy_denominator", target, class_weight.size, ignore_index)
        v = class_weight.astype(np.float64)[target[kept]]
    s = 1.0 if sample_weight is None else sample_weight.astype(np.float64)[kept]
    y[...] = np.sum(np.ones(np.count_nonzero(kept)) * s * v)


@kernel(
    inputs="x target class_weight? sample_weight? denominator",
    outputs="losses dx?",
    whole="class_weight denominator",
    partition="rows",
    operations=lambda x, **_: x.size,
)
def nll_forward(
    x: np.ndarray,
    target: np.ndarray,
    class_weight: np.ndarray | None,
    sample_weight: np.ndarray | None,
    denominator: np.ndarray,
    ignore_index: int,
    losses: np.ndarray,
    dx: np.ndarray | None,
) -> None:
    """Negative log-likelihood: log-probabilities x (rows, cols), target int64 (rows,), class_weight v (cols,),
    sample_weight s (rows,). With t = target[i]:

        losses[i] = −s_i·v_t·x_it,   dx[i, j] = −s_i·v_t·δ_jt/denominator

    A row with target = ignore_index has loss and gradient 0.
    """
    cols = x.shape[1]
    kept = kept_classes("nll_forward", target, cols, ignore_index)
    v = np.ones(cols) if class_weight is None else class_weight.astype(np.float64)
    one_hot = np.arange(cols) == np.where(kept, target, 0)[:, None]
    loss = -np.sum(np.where(one_hot, v * x, 0), axis=1)
    write(loss, np.where(one_hot, -v, 0), sample_weight, denominator, losses, dx)
    losses[~kept] = 0
    if dx is not None:
        dx[~(kept[:, None] & one_hot)] = 0
