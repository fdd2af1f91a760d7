"""Linear and Identity."""

from __future__ import annotations

import math
from typing import Any

from fastbp import ops
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter, empty, require_size
from fastbp.tensor import Tensor


class Linear(Module):
    """An affine layer, y = x wᵀ + b.

    x (..., in_features), weight w (out_features, in_features), bias b (out_features,), y (..., out_features); float32
    or float64, all the same. Weights and biases start uniform in ±1/√in_features, as PyTorch's.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        require_size("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty((out_features, in_features), device, dtype))
        self.bias = Parameter(empty((out_features,), device, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.in_features == 0 or self.out_features == 0:
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return ops.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Returns its input; takes and ignores any arguments, so that it can stand in for another module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input
