"""Losses of real targets: squared, absolute and in between, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence

from fastbp import ops
from fastbp.nn.loss.base import Loss
from fastbp.ops.common import number_of
from fastbp.ops.loss.regression import quantile_numbers
from fastbp.tensor import Tensor


class MSELoss(Loss):
    """Squared error, l = (x − t)².

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j (x_ij − t_ij)² / (n Σ_i s_i) with n elements
    in each row; without weights, the mean over all elements.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.mse_loss(input, target, self.reduction, sample_weight)


class L1Loss(Loss):
    """Absolute error, l = |x − t|, with gradient 0 at x = t.

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j |x_ij − t_ij| / (n Σ_i s_i) with n elements
    in each row; without weights, the mean over all elements.
    """

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.l1_loss(input, target, self.reduction, sample_weight)


class HuberLoss(Loss):
    """Squared error of small errors, absolute error of large ones: with d = x − t and δ = `delta` > 0,
    l = d² / 2 where |d| < δ, else δ (|d| − δ / 2) (Huber, Robust Estimation of a Location Parameter, 1964).

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = number_of(delta, "HuberLoss", "delta", above=0)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.huber_loss(input, target, self.reduction, self.delta, sample_weight)


class SmoothL1Loss(Loss):
    """Absolute error rounded off at 0: with d = x − t and β = `beta` ≥ 0, l = d² / (2 β) where |d| < β, else
    |d| − β / 2 (Girshick, Fast R-CNN, 2015, with β = 1). For β = 0 it is `L1Loss`; `HuberLoss` with δ = β is β times
    as large.

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = number_of(beta, "SmoothL1Loss", "beta", least=0)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.smooth_l1_loss(input, target, self.reduction, self.beta, sample_weight)


class QuantileLoss(Loss):
    """Pinball loss of several quantiles at once: with d = t − x, l = max(q d, (q − 1) d)
    (Koenker and Bassett, Regression Quantiles, 1978).

    x (N, …, Q), a prediction for each of the Q numbers `quantiles`, strictly between 0 and 1; t (N, …), the same for
    all of them. "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n losses in each row, Q for each of its targets.
    """

    def __init__(self, quantiles: Sequence[float], reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.quantiles = quantile_numbers(quantiles, "QuantileLoss")

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.quantile_loss(input, target, self.quantiles, self.reduction, sample_weight)
