"""The exact values of the element-wise functions, and how far a result is from them in units in the last place.

float32 results are measured against float64 arithmetic, float64 results against long double where that is wider (x86
and most Linux systems; elsewhere HAS_WIDE is False). `against_mpmath` measures these references themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mpmath
import numpy as np
from scipy import special

from fastbp.kernels import native

HAS_WIDE = np.finfo(np.longdouble).nmant >= 63


def wide(x: np.ndarray) -> np.ndarray:
    """x in the type its references are computed in."""
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def pi(x: np.ndarray) -> np.floating:
    return 4 * np.arctan(x.dtype.type(1))


def erf_series(t: np.ndarray) -> np.ndarray:
    """erf(t) = 2/√π·e^−t²·Σ (2t²)^k·t/(1·3·…·(2k + 1)), all terms of one sign; for |t| ≤ 1.5."""
    term = total = t
    for k in range(1, 45):
        term = term * (2 * t * t / (2 * k + 1))
        total = total + term
    return 2 / np.sqrt(pi(t)) * np.exp(-t * t) * total


def erfc_fraction(t: np.ndarray) -> np.ndarray:
    """erfc(t) = e^−t²/(√π·(t + (1/2)/(t + (2/2)/(t + (3/2)/(t + …))))); for t ≥ 1.5."""
    fraction = t
    for k in range(50 if t.dtype == np.float64 else 120, 0, -1):
        fraction = t + t.dtype.type(k) / 2 / fraction
    return np.exp(-t * t) / (np.sqrt(pi(t)) * fraction)


def erf(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.float64:
        return special.erf(x)
    t = np.abs(x)
    y = np.where(t < 1.5, t, 1 - erfc_fraction(np.clip(t, 1.5, 9)))
    small = t < 1.5
    y[small] = erf_series(t[small])
    return np.copysign(np.where(np.isnan(x), x, y), x)


def normal_cdf(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.float64:
        return special.ndtr(x)
    t = np.abs(x) / np.sqrt(x.dtype.type(2))
    tail = np.empty_like(t)
    small = t < 1.5
    tail[small] = (1 - erf_series(t[small])) / 2
    tail[~small] = erfc_fraction(np.minimum(t[~small], 100)) / 2
    return np.where(x < 0, tail, 1 - tail)


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def tanh_softplus(x: np.ndarray) -> np.ndarray:
    e = np.exp(np.minimum(x, 50))
    n = e * (e + 2)
    return n / (n + 2)


def gelu_tanh_gate(x: np.ndarray) -> np.ndarray:
    t = np.clip(x, -50, 50)
    return sigmoid(np.sqrt(8 / pi(x)) * (t + x.dtype.type("0.044715") * t * t * t))


def gated(gate: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """x·gate(x), 0 at −∞."""
    return lambda x: np.where(x == -np.inf, 0, np.maximum(x, np.finfo(x.dtype).min) * gate(x))


class Function(NamedTuple):
    reference: Callable[[np.ndarray], np.ndarray]
    bound: float  # in ULP, float32 over all inputs; float64: 2
    floor: float = 0.0  # errors count in ULP of the larger of |result| and floor·|x|


FUNCTIONS = {
    "exp": Function(np.exp, 1.0),
    "log": Function(np.log, 1.0),
    "log1p": Function(np.log1p, 1.5),
    "expm1": Function(np.expm1, 1.5),
    "tanh": Function(np.tanh, 1.5),
    "sigmoid": Function(sigmoid, 1.5),
    "erf": Function(erf, 1.5),
    "softplus": Function(softplus, 2.0),
    "sin": Function(np.sin, 2.0),
    "cos": Function(np.cos, 2.0),
    "gelu": Function(gated(normal_cdf), 4.0, 2.0**-20),
    "gelu_tanh": Function(gated(gelu_tanh_gate), 4.0, 2.0**-20),
    "silu": Function(gated(sigmoid), 4.0, 2.0**-20),
    "mish": Function(gated(tanh_softplus), 4.0, 2.0**-20),
}
POW_BOUND = 2.0
FLOAT64_BOUND = 2.0


def bound(name: str, dtype: np.typing.DTypeLike) -> float:
    if np.dtype(dtype) == np.float64:
        return FLOAT64_BOUND
    return POW_BOUND if name == "pow" else FUNCTIONS[name].bound


def unit(size: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """One unit in the last place of `dtype` at size ≥ 0."""
    info = np.finfo(dtype)
    if size.dtype == np.float64:  # the exponent bits alone are a power of two; frexp takes ten times as long
        power = (size.view(np.int64) & np.int64(0x7FF0000000000000)).view(np.float64)
    else:
        power = np.ldexp(size.dtype.type(1), np.frexp(size)[1] - 1)
    return np.clip(power, size.dtype.type(info.smallest_normal), None) * 2.0**-info.nmant


def ulp_errors(y: np.ndarray, exact: np.ndarray, floor: np.ndarray | None = None) -> np.ndarray:
    """|y − exact| in ULP of y's type at the larger of |exact| and floor.

    Infinity counts as the power of two after the largest finite number; if only one of the two is NaN, the error is ∞.
    """
    with np.errstate(all="ignore"):
        size = np.abs(exact)
        error = np.abs(y - exact) / unit(size if floor is None else np.maximum(size, floor), y.dtype)
        odd = ~np.isfinite(error)
        if odd.any():
            y, exact, size = y[odd], exact[odd], size[odd]
            end = exact.dtype.type(2) ** np.finfo(y.dtype).maxexp
            overflow = np.isinf(y) & np.isfinite(exact) & (np.sign(y) == np.sign(exact))
            gap = np.maximum(end - size, 0) / unit(np.broadcast_to(end / 2, size.shape).copy(), y.dtype)
            same = (y == exact) | (np.isnan(y) & np.isnan(exact))
            error[odd] = np.where(same, 0, np.where(overflow, gap, np.inf))
    return error


class Worst(NamedTuple):
    ulp: float
    x: float


def exact(name: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return FUNCTIONS[name].reference(wide(x))


def max_ulp(function_name: str, evaluate: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> Worst:
    """The largest error of `evaluate` (array to array of the same type) over the inputs, and where it is."""
    floor = FUNCTIONS[function_name].floor
    with np.errstate(all="ignore"):
        errors = ulp_errors(
            evaluate(inputs), exact(function_name, inputs), np.abs(wide(inputs)) * floor if floor else None
        )
    worst = int(errors.argmax())
    return Worst(float(errors[worst]), float(inputs[worst]))


def all_float32(start: int, stop: int) -> np.ndarray:
    """The float32 numbers with the bits start, …, stop − 1."""
    return (np.arange(stop - start, dtype=np.uint32) + np.uint32(start)).view(np.float32)


# Where the kernels change from one formula or power of two to the next, or reach 0, 1 or infinity.
BREAKS = (
    [k * np.log(2) / 2 for k in (1, 2, 3, 5, 49, 51)]
    + [0.5625, 0.90625, np.sqrt(0.5), np.sqrt(2), np.sqrt(2) - 1, 1 - np.sqrt(0.5), 2.0**-12, 2.0**-26, 2.0**-55]
    + [np.pi / 4 * k for k in (1, 2, 3, 4, 6, 8, 100, 101)]
    + [2.0**17, 2.0**20, 4, 6, 9.5, 10.7, 11, 14.5, 18, 20, 21.52, 38, 38.6, 40, 87.3, 88.7, 104, 708.4, 709.8, 745.2]
    + [1.0, 2.0**-126, 2.0**-1022, 2.0**127, 2.0**1023]
)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0]


def samples(dtype: np.typing.DTypeLike, count: int, seed: int = 0) -> np.ndarray:
    """About `count` inputs of all kinds: any bits, all magnitudes, where functions bend, around BREAKS, and SPECIAL."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    part = max(count // 5, 1)
    integer = np.int32 if dtype == np.float32 else np.int64
    breaks = np.array([b for b in BREAKS if b < float(np.finfo(dtype).max)], dtype).view(integer)
    near = (rng.choice(breaks, part) + rng.integers(-1000, 1001, part, integer)).view(dtype)
    signs = rng.choice([-1, 1], (4, part)).astype(dtype)
    return np.concatenate([
        np.frombuffer(rng.bytes(part * dtype.itemsize), dtype),
        signs[0] * np.exp2(rng.uniform(-60, 20, part)).astype(dtype),
        signs[1] * rng.uniform(0, 8, part).astype(dtype),
        signs[2] * rng.uniform(0, 110 if dtype == np.float32 else 760, part).astype(dtype),
        np.where(np.isnan(near), 0, signs[3] * near),
        np.array(SPECIAL, dtype),
    ])  # fmt: skip


def pow_samples(dtype: np.typing.DTypeLike, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bases of all sizes and near 1, exponents that spread the results over all exponents, and small integers."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    base = np.exp2(rng.uniform(info.minexp - info.nmant, info.maxexp, count)).astype(dtype)
    close = rng.random(count) < 0.5
    base[close] = (1 + rng.uniform(-0.5, 0.5, count) * 2.0 ** rng.integers(-info.nmant, 1, count)).astype(dtype)[close]
    with np.errstate(all="ignore"):
        log2_result = rng.uniform(info.minexp - info.nmant - 4, info.maxexp + 2, count)
        exponent = (log2_result / np.log2(wide(base))).astype(dtype)
    integer = rng.random(count) < 0.2
    exponent[integer] = rng.integers(-9, 10, count)[integer]
    base[integer & (rng.random(count) < 0.5)] *= -1
    return base, exponent


def pow_errors(y: np.ndarray, base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return ulp_errors(y, np.power(wide(base), wide(exponent)))


MPMATH = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "expm1": mpmath.expm1,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": lambda x: x / (1 + mpmath.exp(-mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
}


def to_mpmath(x: np.floating) -> mpmath.mpf:
    """Exactly, long double included."""
    mantissa, exponent = np.frexp(x)
    high = float(mantissa)
    return mpmath.ldexp(mpmath.mpf(high) + mpmath.mpf(float(mantissa - type(x)(high))), int(exponent))


def against_mpmath(function_name: str, inputs: np.ndarray) -> Worst:
    """The largest error of our own reference where it is finite, in ULP of the inputs' type.

    Only |x| ≤ 1000 for all but log, log1p, sin and cos: mpmath has no underflow and would write out e^−x in full.
    """
    worst = Worst(0.0, 0.0)
    info = np.finfo(inputs.dtype)
    floor = FUNCTIONS[function_name].floor
    with mpmath.workprec(200):
        for x, reference in zip(inputs, exact(function_name, inputs)):
            if not np.isfinite(reference) or (abs(x) > 1000 and function_name not in ("log", "log1p", "sin", "cos")):
                continue
            truth = MPMATH[function_name](to_mpmath(x))
            scale = max(abs(truth), floor * abs(to_mpmath(x)))
            exponent = max(int(mpmath.frexp(scale)[1]) - 1, info.minexp) if scale else info.minexp
            error = float(abs(to_mpmath(reference) - truth) / mpmath.ldexp(1, exponent - info.nmant))
            worst = max(worst, Worst(error, float(x)))
    return worst


def native_unary(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """An element-wise kernel as a function of arrays."""
    kernel = getattr(native, f"{name}_forward")

    def run(x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        kernel(native.from_array(x), native.from_array(y))
        return y

    return run


def native_pow(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    y = np.empty_like(base)
    native.pow(native.from_array(base), native.from_array(exponent), native.from_array(y))
    return y
