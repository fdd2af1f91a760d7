"""FourierFeatures."""

from __future__ import annotations

import math
from typing import Any

from fastbp import ops
from fastbp.dtypes import as_dtype, float32
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.ops.common import new
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
        for name, value in (("in_features", in_features), ("features", features)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"[FourierFeatures] expected {name} to be an int of at least 1, got {value!r}")
        if not scale >= 0:
            raise ValueError(f"[FourierFeatures] expected scale of at least 0, got {scale!r}")
        self.in_features = in_features
        self.features = features
        self.scale = scale
        kind = float32 if dtype is None else as_dtype(dtype)
        self.register_buffer("B", init.normal_(new((features, in_features), kind).to(device=device), 0.0, scale))

    def forward(self, input: Tensor) -> Tensor:
        phase = ops.linear(input, self.B) * (2 * math.pi)
        return ops.cat([ops.cos(phase), ops.sin(phase)], -1)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, features={self.features}, scale={self.scale}"
