"""MaskedLinear, and the masks of autoregressive networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp import ops
from fastbp.nn.linear import Linear
from fastbp.tensor import Tensor, tensor


class MaskedLinear(Linear):
    """An affine layer some of whose weights take no part, y = x (w ⊙ mask)ᵀ + b.

    x (..., in_features), weight w and the buffer mask (out_features, in_features), bias b (out_features,). The mask is
    a tensor or an array of that shape, true or 1 where a weight takes part, and is kept in the dtype of the weight,
    whose other elements have a gradient of 0. Source: Germain et al., 2015 (MADE).
    """

    mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        mask: Any,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        mask = mask if isinstance(mask, Tensor) else tensor(np.asarray(mask))
        if mask.shape != self.weight.shape:
            raise ValueError(f"[MaskedLinear] expected mask of shape {self.weight.shape}, got {mask.shape}")
        self.register_buffer("mask", mask.detach().to(self.weight.dtype, copy=True).to(device=device))

    def forward(self, input: Tensor) -> Tensor:
        return ops.linear(input, self.weight * self.mask, self.bias)

    @staticmethod
    def autoregressive_masks(
        features: int, hidden: Sequence[int], outputs: int = 1, order: Sequence[int] | None = None
    ) -> list[Tensor]:
        """Masks for layers of widths features, *hidden, features·outputs, such that the outputs of feature i depend on
        the features before it alone; those are outputs i·outputs to (i + 1)·outputs − 1.

        order: the place of each feature, a permutation of 0 to features − 1 (default: as they lie). Units of hidden
        layers see the features up to a place of their own, and those places take turns. Bool tensors (out, in).
        Raises ValueError for sizes below 1 and for an order that is no permutation. Source: Germain et al., 2015.
        """
        op = "autoregressive_masks"
        if min(features, outputs, *hidden) < 1:
            raise ValueError(f"[{op}] expected sizes of at least 1, got {features}, {list(hidden)} and {outputs}")
        places = np.arange(features) if order is None else np.asarray(order)
        if sorted(places.tolist()) != list(range(features)):
            raise ValueError(f"[{op}] expected order as a permutation of 0 to {features - 1}, got {order}")
        masks, seen = [], places
        for width in hidden:
            last = np.arange(width) % max(features - 1, 1)  # a unit that saw all features would serve none
            masks.append(tensor(last[:, None] >= seen))
            seen = last
        masks.append(tensor(np.repeat(places, outputs)[:, None] > seen))
        return masks
