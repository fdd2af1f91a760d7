"""FourierFeatures."""

from __future__ import annotations

import math
from typing import Any

from fastbp import ops
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import empty, require_size
from fastbp.ops.common import number_of
from fastbp.tensor import Tensor


class FourierFeatures(Module):
    """Random frequencies of the input, y = [cos(2π x Bᵀ), sin(2π x Bᵀ)].

    x (..., in_features), B (features, in_features), y (..., 2·features). B is a buffer, drawn once, normal with
    standard deviation `scale`: the larger, the finer what a network behind can represent. Source: Tancik et al., 2020.
    """

    B: Tensor

    def __init__(
        self, in_features: int, features: int, scale: float = 1.0, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        require_size("FourierFeatures", 1, in_features=in_features, features=features)
        self.in_features = in_features
        self.features = features
        self.scale = number_of(scale, "FourierFeatures", "scale", least=0)
        self.register_buffer("B", init.normal_(empty((features, in_features), device, dtype), 0.0, self.scale))

    def forward(self, input: Tensor) -> Tensor:
        phase = ops.linear(input, self.B) * (2 * math.pi)
        return ops.cat([phase.cos(), phase.sin()], -1)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, features={self.features}, scale={self.scale}"
