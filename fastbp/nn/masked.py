"""MaskedLinear, and the masks of autoregressive networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp import ops
from fastbp.from_data import tensor
from fastbp.nn.linear import Linear
from fastbp.nn.parameter import require_size, widths_of
from fastbp.tensor import Tensor


class MaskedLinear(Linear):
    """An affine layer some of whose weights take no part, y = x (w ⊙ mask)ᵀ + b.

    x (..., in_features), weight w and the buffer mask (out_features, in_features), bias b (out_features,). The mask is
    a tensor or an array of that shape, true or 1 where a weight takes part, and is kept in the dtype of the weight,
    whose other elements have a gradient of 0. Raises ValueError for other shapes and values, TypeError for what holds
    no numbers. Source: Germain et al., 2015 (MADE).
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
        values = np.asarray(mask.detach().numpy() if isinstance(mask, Tensor) else mask)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"[MaskedLinear] expected mask as a tensor or an array of numbers, got {mask!r}")
        if values.shape != self.weight.shape:
            raise ValueError(f"[MaskedLinear] expected mask of shape {self.weight.shape}, got {values.shape}")
        other = values[(values != 0) & (values != 1)]
        if other.size:
            raise ValueError(f"[MaskedLinear] expected mask of 0 and 1, got {other[0]}")
        self.register_buffer("mask", tensor(values).to(self.weight.dtype).to(device=device))

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
        Raises ValueError for sizes below 1 and for an order that is no permutation, TypeError for hidden that is no
        sequence. Source: Germain et al., 2015.
        """
        op = "autoregressive_masks"
        require_size(op, 1, features=features, outputs=outputs)
        hidden = widths_of(op, hidden)
        places = np.arange(features) if order is None else np.asarray(order)
        if places.shape != (features,) or set(places.tolist()) != set(range(features)):
            raise ValueError(f"[{op}] expected order as a permutation of 0 to {features - 1}, got {order}")
        masks, seen = [], places
        for width in hidden:
            last = np.arange(width) % max(features - 1, 1)  # a unit that saw all features would serve none
            masks.append(tensor(last[:, None] >= seen))
            seen = last
        masks.append(tensor(np.repeat(places, outputs)[:, None] > seen))
        return masks
