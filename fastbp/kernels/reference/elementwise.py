"""Element-wise kernels: unary with their derivatives, broadcasting binary, comparisons, selection.

Unary bodies are evaluated in float64 and rounded once to the type of the output, so that the float32 reference is
right to the last place (but for rare ties). To add an operation, add one `unary(...)` below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels.facts import kernel, parameters_of

COSTLY = 16  # operations that one exp, log or tanh costs, about

erf = np.vectorize(math.erf, otypes=[np.float64])
erfc = np.vectorize(math.erfc, otypes=[np.float64])


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^−x) without overflow and without cancellation at either end."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x: Any) -> Any:
    """log(1 + e^x) without overflow, accurate for very negative x; there is no threshold."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def gated(x: Any, gate: Any) -> Any:
    """x·gate for a gate that falls to 0 towards −∞ faster than 1/x: −0 at −∞."""
    return np.where(np.isneginf(x), -0.0, x * gate)


def gated_derivative(x: Any, gate: Any, slope: Any) -> Any:
    """gate + x·slope; x·slope falls to 0 on both sides, and in float64 is 0 from |x| = 1000 on."""
    return gate + np.where(np.abs(x) > 1000, 0, x * slope)


def normal_cdf(x: Any) -> Any:
    """Φ(x) = (1 + erf(x/√2))/2, also in the lower tail."""
    return 0.5 * erfc(-x * math.sqrt(0.5))


def normal_density(x: Any) -> Any:
    """φ(x) = Φ'(x)."""
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def gelu_tanh_gate(x: Any) -> Any:
    """(1 + tanh u)/2 = sigmoid(2u) with u = √(2/π)·(x + 0.044715·x³)."""
    return sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def gelu_tanh_slope(x: Any) -> Any:
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return gelu_tanh_gate(x) * gelu_tanh_gate(-x) * slope


def tanh_softplus(x: Any) -> Any:
    return np.tanh(softplus(x))


def tanh_softplus_slope(x: Any) -> Any:
    """sigmoid(x)·(1 − t²) with t = tanh s, where 1 − t = 2·sigmoid(−2s) does not cancel."""
    s = softplus(x)
    return sigmoid(x) * 2 * sigmoid(-2 * s) * (1 + np.tanh(s))


def unary(name: str, equation: str, forward: Callable[..., Any], backward: Callable[..., Any], cost: int = 1) -> None:
    """Define the kernels <name>_forward(x, constants..., y) and <name>_backward(dy, s, constants..., dx).

    The second parameter of `backward` is what the operation saves, x or y; those after it are by-value constants,
    rounded to the type of the operands.
    """
    _, saved, *constants = parameters_of(backward)

    def define(suffix: str, doc: str, function: Callable[..., Any], inputs: list[str], output: str) -> None:
        def body(*arguments: Any) -> None:
            y = arguments[-1]
            wide = [np.asarray(a, y.dtype).astype(np.float64) for a in arguments[:-1]]
            y[...] = function(*wide)

        parameters = [*inputs, *constants, output]
        body.__name__ = body.__qualname__ = f"{name}_{suffix}"
        body.__doc__ = doc + " All tensors of one shape, float32 or float64."
        body.parameters = tuple(parameters)  # type: ignore[attr-defined]
        declare = kernel(inputs=" ".join(inputs), outputs=output, operations=cost, saved=saved)
        globals()[body.__name__] = declare(body)

    define("forward", f"{equation}.", forward, ["x"], "y")
    define("backward", f"dx = dy · derivative of ({equation}), from s = {saved}.", backward, ["dy", "s"], "dx")


unary("neg", "y = −x", lambda x: -x, lambda dy, x: -dy)
unary("exp", "y = e^x", np.exp, lambda dy, y: dy * y, COSTLY)
unary("log", "y = log x", np.log, lambda dy, x: dy / x, COSTLY)
unary("log1p", "y = log(1 + x)", np.log1p, lambda dy, x: dy / (1 + x), COSTLY)
unary("expm1", "y = e^x − 1", np.expm1, lambda dy, y: dy * (y + 1), COSTLY)
unary("sqrt", "y = √x", np.sqrt, lambda dy, y: dy / (2 * y))
unary("square", "y = x²", np.square, lambda dy, x: 2 * (dy * x))
unary("abs", "y = |x|, with derivative 0 at 0", np.abs, lambda dy, x: dy * np.sign(x))
unary("sin", "y = sin x", np.sin, lambda dy, x: dy * np.cos(x), COSTLY)
unary("cos", "y = cos x", np.cos, lambda dy, x: -dy * np.sin(x), COSTLY)
unary(
    "sine",
    "y = sin(omega·x)",
    lambda x, omega: np.sin(omega * x),
    lambda dy, x, omega: dy * omega * np.cos(omega * x),
    COSTLY,
)
unary(
    "clamp",
    "y = x, but min where x < min, and max where that is above max; NaN stays",
    lambda x, min, max: np.where(np.where(x < min, min, x) > max, max, np.where(x < min, min, x)),
    lambda dy, x, min, max: np.where((min <= x) & (x <= max), dy, 0),
)
unary("reciprocal", "y = 1/x", lambda x: 1 / x, lambda dy, y: -(dy * y) * y)
unary("erf", "y = erf x", erf, lambda dy, x: dy * (2 / math.sqrt(math.pi)) * np.exp(-x * x), COSTLY)
unary("tanh", "y = tanh x", np.tanh, lambda dy, y: dy * ((1 - y) * (1 + y)), COSTLY)
unary("sigmoid", "y = 1 / (1 + e^−x)", sigmoid, lambda dy, y: dy * (y * (1 - y)), COSTLY)
unary(
    "relu",
    "y = +0 where x ≤ 0, else x",
    lambda x: np.where(x <= 0, 0, x),
    lambda dy, y: np.where(y <= 0, 0, dy),
)
unary(
    "leaky_relu",
    "y = x where x > 0, else slope·x",
    lambda x, slope: np.where(x > 0, x, slope * x),
    lambda dy, x, slope: np.where(x > 0, dy, slope * dy),
)
unary(
    "elu",
    "y = x where x > 0, else alpha·(e^x − 1)",
    lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
    lambda dy, y, alpha: np.where(y > 0, dy, dy * (y + alpha)),
    COSTLY,
)
unary(
    "gelu",
    "y = x·Φ(x) = x·(1 + erf(x/√2))/2",
    lambda x: gated(x, normal_cdf(x)),
    lambda dy, x: dy * gated_derivative(x, normal_cdf(x), normal_density(x)),
    COSTLY,
)
unary(
    "gelu_tanh",
    "y = x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2",
    lambda x: gated(x, gelu_tanh_gate(x)),
    lambda dy, x: dy * gated_derivative(x, gelu_tanh_gate(x), gelu_tanh_slope(x)),
    COSTLY,
)
unary(
    "silu",
    "y = x·sigmoid(x)",
    lambda x: gated(x, sigmoid(x)),
    lambda dy, x: dy * gated_derivative(x, sigmoid(x), sigmoid(x) * sigmoid(-x)),
    COSTLY,
)
unary("softplus", "y = log(1 + e^x)", softplus, lambda dy, y: dy * -np.expm1(-y), COSTLY)
unary(
    "mish",
    "y = x·tanh(log(1 + e^x))",
    lambda x: gated(x, tanh_softplus(x)),
    lambda dy, x: dy * gated_derivative(x, tanh_softplus(x), tanh_softplus_slope(x)),
    COSTLY,
)


def maximum_of(a: Any, b: Any) -> Any:
    """The larger of a and b; NaN if one of them is NaN; +0 above −0."""
    return np.where((a > b) | np.isnan(a) | ((a == b) & ~np.signbit(a)), a, b)


def minimum_of(a: Any, b: Any) -> Any:
    """The smaller of a and b; NaN if one of them is NaN; −0 below +0."""
    return np.where((a < b) | np.isnan(a) | ((a == b) & np.signbit(a)), a, b)


def power(a: Any, b: Any) -> Any:
    """a^b with C's special cases, evaluated in float64."""
    return np.power(a.astype(np.float64), b.astype(np.float64))


def same_type(a: Any, b: Any) -> tuple[Any, Any]:
    """Both as arrays; a Python number takes the type of the other operand."""
    dtype = b.dtype if isinstance(a, (int, float)) else a.dtype
    return np.asarray(a, dtype), np.asarray(b, dtype)


def binary(name: str, equation: str, function: Callable[..., Any], dtypes: str, cost: int = 1) -> None:
    """Define the kernel <name>(a, b, y): y = function(a, b) with NumPy's broadcasting; a or b may be a number."""

    def body(a: Any, b: Any, y: np.ndarray) -> None:
        y[...] = function(*same_type(a, b))

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"{equation}. y has the broadcast shape of a and b; a or b may be a number. Types: {dtypes}."
    globals()[name] = kernel(inputs="a b", outputs="y", operations=cost, dtypes=dtypes)(body)


FLOATS = "float32 float64"
NUMBERS = FLOATS + " int64"
ALL = NUMBERS + " bool"

binary("add", "y = a + b", np.add, NUMBERS)
binary("sub", "y = a − b", np.subtract, NUMBERS)
binary("mul", "y = a·b", np.multiply, NUMBERS)
binary("div", "y = a/b", np.divide, FLOATS)
binary("pow", "y = a^b", power, FLOATS, 2 * COSTLY)
binary("maximum", "y = max(a, b), NaN wins, +0 above −0", maximum_of, NUMBERS)
binary("minimum", "y = min(a, b), NaN wins, −0 below +0", minimum_of, NUMBERS)
binary("eq", "y = (a = b), bool", np.equal, ALL)
binary("ne", "y = (a ≠ b), bool", np.not_equal, ALL)
binary("lt", "y = (a < b), bool", np.less, ALL)
binary("le", "y = (a ≤ b), bool", np.less_equal, ALL)
binary("gt", "y = (a > b), bool", np.greater, ALL)
binary("ge", "y = (a ≥ b), bool", np.greater_equal, ALL)
binary("logical_and", "y = a and b", np.logical_and, "bool")
binary("logical_or", "y = a or b", np.logical_or, "bool")
binary("logical_xor", "y = a xor b", np.logical_xor, "bool")


@kernel(inputs="x", outputs="y", dtypes="bool")
def logical_not(x: np.ndarray, y: np.ndarray) -> None:
    """y = not x, bool, all of one shape."""
    y[...] = ~x


@kernel(inputs="condition a b", outputs="y", dtypes=ALL)
def where(condition: np.ndarray, a: Any, b: Any, y: np.ndarray) -> None:
    """y = a where condition (bool) is true, else b; broadcasting; a or b may be a number; a, b, y of one type."""
    y[...] = np.where(condition, np.asarray(a, y.dtype), np.asarray(b, y.dtype))
