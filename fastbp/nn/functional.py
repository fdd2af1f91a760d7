"""Operations of networks as functions, under PyTorch's names: what layers, activations and losses call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastbp.nn.activation import OPERATIONS
from fastbp.ops import (
    batch_norm,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    dropout,
    embedding,
    l1_loss,
    layer_norm,
    linear,
    mse_loss,
    nll_loss,
    rms_norm,
)
from fastbp.tensor import Tensor

globals().update({op.__name__: op for op in OPERATIONS})

__all__ = [
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "embedding",
    "l1_loss",
    "layer_norm",
    "linear",
    "mse_loss",
    "nll_loss",
    "rms_norm",
    *(op.__name__ for op in OPERATIONS),
]

if TYPE_CHECKING:  # the activations, for type checkers

    def __getattr__(name: str) -> Callable[..., Tensor]: ...
