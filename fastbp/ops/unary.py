"""Element-wise operations of one tensor. One call of `unary` is all that an operation needs here.

Backward is the fused kernel <name>_backward; when the backward pass is itself recorded, dx = dy · derivative(s) is
composed from recorded operations instead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from fastbp.autograd import mode
from fastbp.function import Function, record
from fastbp.ops.common import backend_of, floating, like
from fastbp.tensor import Tensor, contiguous

# Operations of a tensor alone, by name: what Tensor methods and nn's activation classes are derived from.
UNARY: dict[str, Callable[..., Tensor]] = {}


def unary(name: str, equation: str, derivative: Callable[..., Any]) -> Callable[..., Tensor]:
    """Makes the operation `name` from its kernels.

    derivative: f' in terms of what the operation saves (x or y, by the fact declared on its reference) and of its
        constants, written with operations.
    """
    forward_name, backward_name = name + "_forward", name + "_backward"

    @functools.cache
    def saves_input() -> bool:
        from fastbp.kernels import reference  # where the fact is declared; needed only when something is recorded

        return getattr(reference, forward_name).facts.saved == "x"

    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (s,) = ctx.saved_tensors
        if mode.enabled:
            return dy * derivative(s, *ctx.constants)
        dx = like(dy)
        getattr(backend_of(dy), backward_name)(contiguous(dy), contiguous(s), *ctx.constants, dx.buffer)
        return dx

    members = {"fresh": True, "backward": staticmethod(backward), "__module__": __name__}
    function: Any = type("".join(word.capitalize() for word in name.split("_")), (Function,), members)

    def op(x: Tensor, *constants: float) -> Tensor:
        x = floating(x, name)
        y = like(x)
        getattr(backend_of(x), forward_name)(contiguous(x), *constants, y.buffer)
        if node := record(function, (x,), y):
            node.save_for_backward(x if saves_input() else y)
            node.constants = constants
        return y

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"{equation}, element by element; integers are taken as float32."
    UNARY[name] = op
    return op


def step(x: Tensor, low: float, high: float) -> Tensor:
    """`high` where x > 0, else `low`; without gradient."""
    return (x > 0).to(x.dtype) * (high - low) + low


exp = unary("exp", "y = eˣ", lambda y: y)
log = unary("log", "y = ln x", lambda x: 1 / x)
log1p = unary("log1p", "y = ln(1 + x)", lambda x: 1 / (1 + x))
expm1 = unary("expm1", "y = eˣ − 1", lambda y: y + 1)
sqrt = unary("sqrt", "y = √x", lambda y: 0.5 / y)
sin = unary("sin", "y = sin x", lambda x: cos(x))
cos: Callable[..., Tensor] = unary("cos", "y = cos x", lambda x: -sin(x))
reciprocal = unary("reciprocal", "y = 1/x", lambda y: -(y * y))
erf = unary("erf", "y = 2/√π ∫₀ˣ e^(−t²) dt", lambda x: 2 / math.sqrt(math.pi) * exp(-(x * x)))
tanh = unary("tanh", "y = tanh x", lambda y: 1 - y * y)
sigmoid = unary("sigmoid", "y = 1/(1 + e⁻ˣ)", lambda y: y * (1 - y))
relu = unary("relu", "y = max(x, 0); the derivative at 0 is 0", lambda y: step(y, 0, 1))
silu = unary("silu", "y = x·σ(x)", lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))))
softplus_unit = unary("softplus", "y = ln(1 + eˣ)", lambda y: -expm1(-y))
mish = unary("mish", "y = x·tanh(ln(1 + eˣ))", lambda x: (t := tanh(softplus_unit(x))) + x * (1 - t * t) * sigmoid(x))
_neg = unary("neg", "y = −x", lambda x: -1.0)
_square = unary("square", "y = x²", lambda x: 2 * x)
_abs = unary("abs", "y = |x|; the derivative at 0 is 0", lambda x: step(x, 0, 1) - step(-x, 0, 1))
_sine = unary("sine", "y = sin(ω·x)", lambda x, omega: cos(x * omega) * omega)
_clamp = unary("clamp", "y = min(max(x, low), high)", lambda x, low, high: ((x >= low) & (x <= high)).to(x.dtype))
_leaky_relu = unary("leaky_relu", "y = x where x > 0, else slope·x", lambda x, slope: step(x, slope, 1))
_elu = unary("elu", "y = x where x > 0, else α·(eˣ − 1)", lambda y, a: step(y, 0, 1) + (1 - step(y, 0, 1)) * (y + a))
_gelu = unary(
    "gelu",
    "y = x·Φ(x), Φ the normal distribution function",
    lambda x: 0.5 * (1 + erf(x * math.sqrt(0.5))) + x * exp(-0.5 * (x * x)) / math.sqrt(2 * math.pi),
)


def _gelu_tanh_derivative(x: Tensor) -> Tensor:
    c = math.sqrt(2 / math.pi)
    t = tanh(c * (x + 0.044715 * x * x * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)


_gelu_tanh = unary("gelu_tanh", "y = x/2·(1 + tanh(√(2/π)·(x + 0.044715 x³)))", _gelu_tanh_derivative)


def neg(x: Tensor) -> Tensor:
    """y = −x; integers stay integers."""
    return _neg(x) if x.dtype.is_floating_point else 0 - x


def square(x: Tensor) -> Tensor:
    """y = x²; integers stay integers."""
    return _square(x) if x.dtype.is_floating_point else x * x


def abs(x: Tensor) -> Tensor:
    """y = |x|, with derivative 0 at 0; integers stay integers."""
    return _abs(x) if x.dtype.is_floating_point else x.maximum(0 - x)


def clamp(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """y = min(max(x, min), max); a bound left out does not bind. ValueError when both are left out."""
    if min is None and max is None:
        raise ValueError("[clamp] expected min or max, got neither")
    if not x.dtype.is_floating_point:
        x = x if min is None else x.maximum(int(min))
        return x if max is None else x.minimum(int(max))
    return _clamp(x, -math.inf if min is None else float(min), math.inf if max is None else float(max))


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """y = x where x > 0, else negative_slope·x."""
    return _leaky_relu(x, float(negative_slope))


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """y = x where x > 0, else α·(eˣ − 1). ValueError for alpha < 0, where y would not determine the derivative."""
    if alpha < 0:
        raise ValueError(f"[elu] expected alpha ≥ 0, got {alpha}")
    return _elu(x, float(alpha))


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit (Hendrycks and Gimpel, 2016): y = x·Φ(x); approximate="tanh" is their formula."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'[gelu] expected approximate "none" or "tanh", got {approximate!r}')
    return _gelu(x) if approximate == "none" else _gelu_tanh(x)


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    """y = ln(1 + e^(βx))/β, exact for every x. ValueError for beta ≤ 0."""
    if beta <= 0:
        raise ValueError(f"[softplus] expected beta > 0, got {beta}")
    return softplus_unit(x) if beta == 1 else softplus_unit(x * beta) / beta


def sine(x: Tensor, omega: float = 30.0) -> Tensor:
    """y = sin(ω·x), the activation of sinusoidal representation networks (Sitzmann et al., 2020)."""
    return _sine(x, float(omega))


def selu(x: Tensor) -> Tensor:
    """y = s·elu(x, α), whose constants keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    return _elu(x, 1.6732632423543772) * 1.0507009873554805


def logsigmoid(x: Tensor) -> Tensor:
    """y = ln σ(x) = −ln(1 + e⁻ˣ), exact for every x."""
    return -softplus_unit(-x)


COMPOSED = ["logsigmoid", "selu"]  # of several kernels
# What the package exports: every operation made above, under its public name.
KERNELS = [name for name in UNARY if name in globals()]
__all__ = [*KERNELS, *COMPOSED]
