"""Losses of distributions: likelihoods of Poisson, normal and mixture distributions, and relative entropy."""

from __future__ import annotations

from fastbp import ops
from fastbp.nn.loss.base import Loss
from fastbp.ops.common import number_of
from fastbp.ops.loss.fused import REDUCTIONS
from fastbp.tensor import Tensor


class PoissonNLLLoss(Loss):
    """Likelihood of counts under Poisson distributions: l = eˣ − t x, or l = x − t log(x + ε) without `log_input`.

    x and t of one shape (N, …), float32 or float64; ε = `eps` ≥ 0. `full` adds log t! by Stirling's formula,
    t log t − t + ½ log 2πt, where t > 1. "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row.
    """

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.log_input, self.full = bool(log_input), bool(full)
        self.eps = number_of(eps, "PoissonNLLLoss", "eps", least=0)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.poisson_nll_loss(input, target, self.log_input, self.full, self.eps, self.reduction, sample_weight)


class GaussianNLLLoss(Loss):
    """Likelihood under normal distributions of mean x and variance v, l = ½ (log v + (x − t)² / v), v at least `eps`
    (Nix and Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994).

    x and t of one shape (N, …), float32 or float64; v a number, or of that shape, without its last dimension, or with
    one of them 1. Both x and v have gradients, that of v as if it were not bounded. `full` adds ½ log 2π. "mean" is
    Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row. ValueError where v ≤ 0 (for PyTorch 0 is `eps`, as such
    values are in a compiled function).
    """

    def __init__(self, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full = bool(full)
        self.eps = number_of(eps, "GaussianNLLLoss", "eps", above=0)

    def forward(
        self, input: Tensor, target: Tensor, var: Tensor | float, sample_weight: Tensor | None = None
    ) -> Tensor:
        return ops.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction, sample_weight)


class MixtureNLLLoss(Loss):
    """Likelihood under mixtures of normal distributions, the loss of mixture density networks,
    l_i = −log Σ_k π_k ∏_d N(t_d; μ_kd, σ_kd²) with π = softmax(logits) and σ = e^log_stds
    (Bishop, Mixture Density Networks, 1994), computed from logarithms alone.

    logits (N, K), means and log_stds (N, K, D), all three with gradients, target (N, D), float32 or float64; l is (N,).
    "mean" is Σ_i s_i l_i / Σ_i s_i.
    """

    def forward(
        self, logits: Tensor, means: Tensor, log_stds: Tensor, target: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        return ops.mixture_nll_loss(logits, means, log_stds, target, self.reduction, sample_weight)


class KLDivLoss(Loss):
    """Relative entropy of probabilities t against log-probabilities x, l = t (log t − x), or l = eᵗ (t − x) with
    `log_target` (Kullback and Leibler, On Information and Sufficiency, 1951).

    x and t of one shape (N, …), float32 or float64. "mean" is Σ_i s_i Σ_j l_ij / (n Σ_i s_i), n elements in each row;
    "batchmean", the divergence as it is defined, Σ_i s_i Σ_j l_ij / Σ_i s_i.
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, (*REDUCTIONS, "batchmean"))
        self.log_target = bool(log_target)

    def forward(self, input: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        return ops.kl_div(input, target, self.reduction, self.log_target, sample_weight)
