"""Operations of networks as functions, under PyTorch's names: what layers, activations and losses call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastbp.nn.activation import OPERATIONS
from fastbp.ops import (
    batch_norm,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cross_entropy,
    dropout,
    embedding,
    gaussian_nll_loss,
    hinge_embedding_loss,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    l1_penalty,
    l2_penalty,
    layer_norm,
    linear,
    mixture_nll_loss,
    mse_loss,
    nll_loss,
    poisson_nll_loss,
    quantile_loss,
    rms_norm,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
from fastbp.tensor import Tensor

globals().update({op.__name__: op for op in OPERATIONS})

__all__ = [
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "dropout",
    "embedding",
    "l1_loss",
    "layer_norm",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_penalty",
    "l2_penalty",
    "linear",
    "mixture_nll_loss",
    "mse_loss",
    "nll_loss",
    "rms_norm",
    "poisson_nll_loss",
    "quantile_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    *(op.__name__ for op in OPERATIONS),
]

if TYPE_CHECKING:  # the activations, for type checkers

    def __getattr__(name: str) -> Callable[..., Tensor]: ...
