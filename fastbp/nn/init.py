"""Starting values of parameters. Each function fills its tensor in place, outside the graph, and returns it.

Random values come from the generator that `manual_seed` sets.
"""

from __future__ import annotations

import math

import numpy as np

from fastbp.autograd import no_grad
from fastbp.from_data import tensor as make_tensor
from fastbp.tensor import Tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    if not a <= b:
        raise ValueError(f"[uniform_] expected a <= b, got a = {a} and b = {b}")
    with no_grad():
        return tensor.uniform_(a, b)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation."""
    if not std >= 0:
        raise ValueError(f"[normal_] expected std >= 0, got {std}")
    with no_grad():
        return tensor.normal_(mean, std)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    with no_grad():
        return tensor.fill_(val)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights grow to make up for what a nonlinearity takes from the variance.

    linear, sigmoid 1; tanh 5/3; relu √2; selu 3/4; leaky_relu √(2 / (1 + slope²)), slope = `param`, 0.01 if not given.
    Source: PyTorch's table, after He et al. 2015.
    """
    fixed = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
    if nonlinearity in fixed:
        return fixed[nonlinearity]
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    expected = ", ".join([*fixed, "leaky_relu"])
    raise ValueError(f"[calculate_gain] expected nonlinearity to be one of {expected}, got {nonlinearity!r}")


def _fans(operation: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *receptive field)."""
    if tensor.ndim < 2:
        raise ValueError(f"[{operation}] expected a tensor with at least 2 dimensions, got shape {tuple(tensor.shape)}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)). Source: Glorot and Bengio 2010."""
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with std = gain·√(2 / (fan_in + fan_out)). Source: Glorot and Bengio 2010."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor))))


def _kaiming_std(operation: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"[{operation}] expected mode 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = _fans(operation, tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan_in if mode == "fan_in" else fan_out)


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in ±gain·√(3 / fan); `a` is the slope of leaky_relu. Source: He et al. 2015."""
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with std = gain / √fan; `a` is the slope of leaky_relu. Source: He et al. 2015."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer.

    Q of a QR decomposition of a normal matrix, signs fixed by diag(R) so that Q is uniformly distributed; dimensions
    after the first count as one. Source: Saxe et al. 2014; Mezzadri 2007 for the signs.
    """
    _fans("orthogonal_", tensor)
    if tensor.numel() == 0:
        return tensor
    drawn = normal_(tensor).detach().numpy().reshape(tensor.shape[0], -1)
    tall = drawn if drawn.shape[0] >= drawn.shape[1] else drawn.T
    q, r = np.linalg.qr(tall.astype(np.float64))
    q *= np.where(np.diag(r) < 0, -gain, gain)
    values = q if tall is drawn else q.T
    with no_grad():
        return tensor.copy_(make_tensor(values.reshape(tensor.shape), dtype=tensor.dtype))


def siren_uniform_(tensor: Tensor, omega: float = 30.0, first: bool = False) -> Tensor:
    """For a layer before y = sin(ω·x): uniform in ±√(6 / fan_in) / ω, in the first layer of a network in ±1 / fan_in.

    Source: Sitzmann et al. 2020.
    """
    if not omega > 0:
        raise ValueError(f"[siren_uniform_] expected omega > 0, got {omega}")
    fan_in, _ = _fans("siren_uniform_", tensor)
    bound = 1 / max(fan_in, 1) if first else math.sqrt(6.0 / max(fan_in, 1)) / omega
    return uniform_(tensor, -bound, bound)
