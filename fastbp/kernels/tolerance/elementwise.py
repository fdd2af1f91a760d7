"""Rules of unary and binary kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels import facts
from fastbp.kernels.reference import elementwise
from fastbp.kernels.tolerance.rules import RULES, rule, ulp

# Bounds of the vector functions for float32 (design, section 4).
FORWARD_ULP = {
    "exp": 1.0, "log": 1.0, "log1p": 1.5, "expm1": 1.5, "tanh": 1.5, "sigmoid": 1.5, "erf": 1.5, "softplus": 2.0,
    "elu": 2.5,
}  # fmt: skip
# Derivatives that are products of a few rounded factors, one of them perhaps a vector function.
BACKWARD_ULP = {
    "log1p": 1.5, "expm1": 1.5, "reciprocal": 1.5, "tanh": 1.5, "sigmoid": 2.0, "elu": 1.5, "softplus": 2.5,
}  # fmt: skip
GATED = ("gelu", "gelu_tanh", "silu", "mish")


def forward_rule(bound: float) -> Callable[..., Any]:
    def units(expected: np.ndarray, eps: float) -> np.ndarray:
        # The reference is rounded once in float32; in float64, where 2 ULP are promised, it is itself off by up to 1.7.
        return (bound + 0.5 if eps > 1e-10 else max(bound, 2.0) + 2) * ulp(expected, expected.dtype)

    return units


def backward_rule(bound: float) -> Callable[..., Any]:
    def units(expected: np.ndarray, eps: float) -> np.ndarray:
        return (bound + (0.5 if eps > 1e-10 else 1.5)) * ulp(expected, expected.dtype)

    return units


for _name, _bound in FORWARD_ULP.items():
    RULES[f"{_name}_forward"] = forward_rule(_bound)
for _name, _bound in BACKWARD_ULP.items():
    RULES[f"{_name}_backward"] = backward_rule(_bound)


@rule("sin_forward", "cos_forward")
def _(x: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (np.where(np.abs(x) > 2.0**17, 4, 2) + 1) * ulp(expected, expected.dtype)


@rule("sin_backward", "cos_backward")
def _(s: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (np.where(np.abs(s) > 2.0**17, 4, 2) + 2) * ulp(expected, expected.dtype)


@rule("sine_forward")
def _(x: np.ndarray, omega: float, expected: np.ndarray, eps: float) -> np.ndarray:
    return 5 * ulp(expected, expected.dtype) + eps * np.abs(omega * x)  # omega·x is rounded before it is taken


@rule("sine_backward")
def _(dy: np.ndarray, s: np.ndarray, omega: float, expected: np.ndarray, eps: float) -> np.ndarray:
    return 6 * ulp(expected, expected.dtype) + eps * np.abs(dy * omega) * np.abs(omega * s)


@rule(*(f"{name}_forward" for name in GATED))
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    # In float64 rounding what goes into erfc and exp costs the reference up to 1.8·(1 + x²) ULP in the lower tail.
    units = 4.5 if eps > 1e-10 else 6 + 2 * np.minimum(np.square(np.minimum(x, 0)), 40)
    return units * ulp(np.maximum(np.abs(expected), 2.0**-20 * np.abs(x)), expected.dtype)


@rule(*(f"{name}_backward" for name in GATED))
def _(dy: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return 4 * eps * np.maximum(np.abs(dy), np.abs(expected))


# Operations whose every result is rounded once, as the reference's is, or not at all; by their kernels.
EXACT = {
    "neg_forward", "neg_backward", "sqrt_forward", "sqrt_backward", "square_forward", "abs_forward", "abs_backward",
    "clamp_forward", "clamp_backward", "relu_forward", "relu_backward", "leaky_relu_forward", "leaky_relu_backward",
    "reciprocal_forward", "exp_backward", "log_backward",
}  # fmt: skip


def few_roundings(expected: np.ndarray) -> np.ndarray:
    """For an element-wise operation without a bound of its own: as the gated activations."""
    return 4.5 * ulp(expected, expected.dtype)


@rule("square_backward")
def _() -> float:
    return 0.0  # exact, but that dy·x may be rounded below the normal numbers before it is doubled


@rule("erf_backward")
def _(s: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return (4 + s * s) * eps * np.abs(expected)  # rounding s² by u changes e^−s² by s²·u


for _name, _kernel in facts.kernels(elementwise).items():
    if _kernel.facts.saved and _name not in EXACT:  # type: ignore[attr-defined]
        RULES.setdefault(_name, few_roundings)


@rule("pow")
def _(expected: np.ndarray, eps: float) -> np.ndarray:
    return (2.5 if eps > 1e-10 else 3.5) * ulp(expected, expected.dtype)
