"""Normalisation layers: LayerNorm, RMSNorm, BatchNorm1d."""

from __future__ import annotations

from typing import Any

from fastbp import ops
from fastbp.dtypes import int64
from fastbp.nn import init
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter, empty, require_size
from fastbp.ops.common import as_tensor_operand, number_of, sizes_from
from fastbp.tensor import Tensor, filled


class _OverLast(Module):
    """What is normalised over the last dimensions of its input."""

    weight: Parameter | None
    eps: Any

    def __init__(
        self, normalized_shape: Any, eps: float | None, elementwise_affine: bool, device: Any, dtype: Any
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.normalized_shape = sizes_from(name, (normalized_shape,))
        if not self.normalized_shape:
            raise ValueError(f"[{name}] expected normalized_shape of at least one dimension, got ()")
        self.eps = None if eps is None else number_of(eps, name, "eps", least=0)
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(empty(self.normalized_shape, device, dtype)) if elementwise_affine else None

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LayerNorm(_OverLast):
    """Layer norm, y = (x − μ)/√(σ² + ε)·w + b, with mean μ and biased variance σ² over the last dimensions of x.

    x and y (..., *normalized_shape), weight w and bias b (*normalized_shape); an integer stands for one dimension.
    w starts at 1, b at 0; without elementwise_affine there is neither, without bias no b. Behaves the same in training
    and evaluation. Source: Ba, Kiros and Hinton, 2016.
    """

    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        number_of(eps, "LayerNorm", "eps", least=0)  # None is for RMS norm alone
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)
        self.bias = Parameter(empty(self.normalized_shape, device, dtype)) if elementwise_affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bias={self.bias is not None}"


class RMSNorm(_OverLast):
    """RMS norm, y = x/√(mean of x² + ε)·w over the last dimensions of x.

    x and y (..., *normalized_shape), weight w (*normalized_shape), which starts at 1; an integer stands for one
    dimension. eps: the machine epsilon of x's dtype where it is None. Source: Zhang and Sennrich, 2019.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return ops.rms_norm(input, self.normalized_shape, self.weight, self.eps)


class BatchNorm1d(Module):
    """Batch norm, y = (x − μ)/√(σ² + ε)·w + b, with mean μ and variance σ² of each channel.

    x and y (N, C) or (N, C, L), weight w and bias b (C,), which start at 1 and 0; without affine there is neither,
    without bias no b. In training μ and σ² (biased) are those of the batch, and the buffers running_mean and
    running_var move towards them: r ← (1 − momentum)·r + momentum·s, s the mean or the unbiased variance; with momentum
    None they are the means over all batches, which num_batches_tracked counts. In evaluation they take the place of the
    batch's, unless track_running_stats is False: then there are none. A batch with a single value of each channel is
    refused in training (ValueError). Source: Ioffe and Szegedy, 2015.
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        require_size("BatchNorm1d", num_features=num_features)
        self.num_features = num_features
        self.eps = number_of(eps, "BatchNorm1d", "eps", least=0)
        self.momentum = None if momentum is None else number_of(momentum, "BatchNorm1d", "momentum", least=0, most=1)
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape, tracked = (num_features,), track_running_stats
        self.weight = Parameter(empty(shape, device, dtype)) if affine else None
        self.bias = Parameter(empty(shape, device, dtype)) if affine and bias else None
        self.register_buffer("running_mean", empty(shape, device, dtype) if tracked else None)
        self.register_buffer("running_var", empty(shape, device, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", filled((), 0, int64).to(device=device) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.constant_(self.num_batches_tracked, 0)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        shape = as_tensor_operand(input, "BatchNorm1d").shape
        if len(shape) not in (2, 3) or shape[1] != self.num_features:
            raise ValueError(
                f"[BatchNorm1d] expected input (N, C) or (N, C, L) with C = {self.num_features}, got {shape}"
            )
        tracks = self.training and self.track_running_stats
        own = self.training or self.running_mean is None
        return ops.batch_norm(
            input,
            self.running_mean if tracks or not own else None,
            self.running_var if tracks or not own else None,
            self.weight,
            self.bias,
            own,
            self.momentum if tracks else 0.0,
            self.eps,
            self.num_batches_tracked if tracks else None,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
