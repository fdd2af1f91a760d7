"""Losses of classes: cross-entropy of logits, and the negative log-likelihood of log-probabilities."""

from __future__ import annotations

from fastbp import ops
from fastbp.nn.loss.base import Loss
from fastbp.tensor import Tensor


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits, l_i = −Σ_c w_c q_ic log softmax(x_i)_c.

    x (N, C) float32 or float64; `weight` w (C,), 1 where none is given. The target is int64 (N,) of class numbers, then
    q_i is one-hot at t_i, or probabilities q (N, C) of x's dtype. With label smoothing ε, q becomes (1 − ε) q + ε / C.
    Rows whose class number is `ignore_index` give 0.
    "mean" is Σ_i s_i l_i / D. For class numbers D = Σ_i s_i w[t_i] over the rows that are not ignored (without any the
    mean is NaN), for probabilities D = Σ_i s_i. Source of the weighted and smoothed forms: PyTorch.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"[CrossEntropyLoss] expected label_smoothing between 0 and 1, got {label_smoothing!r}")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            sample_weight=sample_weight,
        )


class NLLLoss(Loss):
    """Negative log-likelihood of log-probabilities, l_i = −w[t_i] x_i,t_i: cross-entropy after `LogSoftmax`.

    x (N, C) float32 or float64, int64 class numbers t (N,); `weight` w (C,), 1 where none is given. Rows whose class
    number is `ignore_index` give 0. "mean" is Σ_i s_i l_i / Σ_i s_i w[t_i] over the rows that are not ignored (without
    any the mean is NaN).
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.nll_loss(input, target, self.weight, self.ignore_index, self.reduction, sample_weight)
