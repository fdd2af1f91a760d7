"""Losses of yes and no: cross-entropy of probabilities and logits, focal loss, hinges."""

from __future__ import annotations

from fastbp import ops
from fastbp.nn.loss.base import Loss
from fastbp.ops.common import number_of
from fastbp.tensor import Tensor


class BCELoss(Loss):
    """Binary cross-entropy of probabilities, l = −(t log x + (1 − t) log(1 − x)), logarithms bounded below by −100.

    x in [0, 1] and t in [0, 1] of one shape (N, …). "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    `BCEWithLogitsLoss` on the values before the sigmoid is more accurate.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.binary_cross_entropy(input, target, reduction=self.reduction, sample_weight=sample_weight)


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits, l = −(p t log σ(x) + (1 − t) log(1 − σ(x))), computed without overflow.

    x any real and t in [0, 1] of one shape (N, …); p is `pos_weight`, which broadcasts to x, 1 where none is given.
    "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row: `pos_weight` is not in the denominator.
    """

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.binary_cross_entropy_with_logits(
            input, target, reduction=self.reduction, pos_weight=self.pos_weight, sample_weight=sample_weight
        )


class SigmoidFocalLoss(Loss):
    """Cross-entropy of logits in which easy examples count less, l = a (1 − p_t)^γ ce, with p = σ(x),
    p_t = p t + (1 − p)(1 − t), ce = −(t log p + (1 − t) log(1 − p)) and a = α t + (1 − α)(1 − t), or 1 for α < 0
    (Lin et al., Focal Loss for Dense Object Detection, 2017).

    x any real and t in [0, 1] of one shape (N, …); α = `alpha` ≤ 1, γ = `gamma` ≥ 0. "mean" is
    Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row: a is not in the denominator.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.alpha = number_of(alpha, "SigmoidFocalLoss", "alpha", most=1)
        self.gamma = number_of(gamma, "SigmoidFocalLoss", "gamma", least=0)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.sigmoid_focal_loss(input, target, self.alpha, self.gamma, self.reduction, sample_weight)


class HingeLoss(Loss):
    """Hinge loss of scores, l = max(0, 1 − t x), with gradient 0 where t x = 1
    (Cortes and Vapnik, Support-Vector Networks, 1995).

    x any real and t = −1 or 1, of one shape (N, …). "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.hinge_loss(input, target, self.reduction, sample_weight)


class HingeEmbeddingLoss(Loss):
    """Loss of distances, l = x where t = 1, max(0, m − x) where t = −1, with m = `margin`.

    x and t = −1 or 1 of one shape (N, …). "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = number_of(margin, "HingeEmbeddingLoss", "margin")

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.hinge_embedding_loss(input, target, self.margin, self.reduction, sample_weight)
