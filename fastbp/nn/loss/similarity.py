"""Losses of pairs: how alike two vectors are to be."""

from __future__ import annotations

from fastbp import ops
from fastbp.nn.loss.base import Loss
from fastbp.ops.common import number_of
from fastbp.tensor import Tensor


class CosineEmbeddingLoss(Loss):
    """Loss of the angle between vectors a and b, l_i = 1 − c where t_i = 1, max(0, c − m) where t_i = −1, with
    c = a·b / √((a·a + 10⁻¹²)(b·b + 10⁻¹²)) and m = `margin` from −1 to 1.

    a and b (N, D), or (D,) for one pair, both with gradients; t (N,) or a scalar. "mean" is Σ_i s_i l_i / Σ_i s_i.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = number_of(margin, "CosineEmbeddingLoss", "margin", least=-1, most=1)

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.cosine_embedding_loss(input1, input2, target, self.margin, self.reduction, sample_weight)
