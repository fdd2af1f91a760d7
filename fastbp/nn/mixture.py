"""MixtureDensity, a layer whose output is a mixture of normal distributions."""

from __future__ import annotations

from types import NoneType
from typing import Any, NamedTuple

from fastbp import ops
from fastbp.autograd import no_grad
from fastbp.nn.linear import Linear
from fastbp.nn.module import Module
from fastbp.nn.parameter import require_size
from fastbp.ops.random import Generator
from fastbp.tensor import Tensor


class Mixture(NamedTuple):
    """N mixtures of K normal distributions in D dimensions: weights p = softmax(logits), means μ, and standard
    deviations σ = exp(log_stds) of independent dimensions.

    logits (N, K), means and log_stds (N, K, D).
    """

    logits: Tensor
    means: Tensor
    log_stds: Tensor

    def mean(self) -> Tensor:
        """Σ_k p_k μ_k of each mixture (N, D)."""
        weights = ops.softmax(self.logits, -1)
        return (self.means * weights.unsqueeze(-1)).sum(-2)

    def log_prob(self, target: Tensor) -> Tensor:
        """log Σ_k p_k Π_d N(t_d; μ_kd, σ_kd) of targets t (N, D); (N,). `mixture_nll_loss` is the negative of it."""
        return -ops.mixture_nll_loss(*self, target, reduction="none")

    def sample(self, generator: Generator | None = None) -> Tensor:
        """A value of each mixture (N, D), without gradient.

        k is the largest of logits + G with independent Gumbel numbers G = −log(−log U), then t = μ_k + σ_k·z, z normal.
        Random numbers come from `generator`, or from the one that `manual_seed` sets.
        """
        if not isinstance(generator, (Generator, NoneType)):
            raise TypeError(f"[Mixture.sample] expected generator as a Generator or None, got {generator!r}")
        n, _, dims = self.means.shape
        dtype = self.means.dtype
        with no_grad():
            uniform = ops.rand(self.logits.shape, dtype=dtype, generator=generator)
            chosen = (self.logits - (-uniform.log()).log()).argmax(-1)
            place = chosen.reshape(n, 1, 1).expand(n, 1, dims)
            mean, log_std = (x.gather(1, place).reshape(n, dims) for x in (self.means, self.log_stds))
            return mean + log_std.exp() * ops.randn(n, dims, dtype=dtype, generator=generator)


class MixtureDensity(Module):
    """A linear layer that gives the parameters of mixtures of normal distributions, as a `Mixture`.

    x (N, in_features); the mixtures have `components` distributions in out_features dimensions. The loss is
    `F.mixture_nll_loss(*mixture, target)`. Source: Bishop, 1994.
    """

    def __init__(
        self, in_features: int, out_features: int, components: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        require_size("MixtureDensity", 1, out_features=out_features, components=components)
        self.out_features = out_features
        self.components = components
        self.linear = Linear(in_features, components * (1 + 2 * out_features), device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Mixture:
        if input.ndim != 2:
            raise ValueError(f"[MixtureDensity] expected input of shape (N, in_features), got {input.shape}")
        k, d = self.components, self.out_features
        logits, means, log_stds = self.linear(input).split([k, k * d, k * d], 1)
        return Mixture(logits, means.reshape(-1, k, d), log_stds.reshape(-1, k, d))

    def extra_repr(self) -> str:
        return f"out_features={self.out_features}, components={self.components}"
