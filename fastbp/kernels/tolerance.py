"""How far a backend's result may be from the reference: the one place, for the tests and for check mode.

A kernel without a rule here is exact: equal bits, all NaNs counting as one value. A rule gives the largest difference
allowed at each element, from the error analysis of the numerical contract: u = eps/2 for every rounding, chains of 512
terms, bounds in units in the last place (ULP) for vector functions. Nothing is a chosen percentage.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.kernels import facts
from fastbp.kernels.reference import elementwise

CHUNK = 512  # terms in one chain
LANES = 16  # chains side by side in sums over the last axis
DERIVATIVE_BOUND = 1.2  # above |f'| of every activation with slopes of at most 1
RULES: dict[str, Callable[..., Any]] = {}


def difference(
    name: str, output: str, arguments: dict[str, Any], expected: np.ndarray, actual: np.ndarray
) -> str | None:
    """What is wrong with `actual`, one of the outputs of a kernel called with `arguments` (as they were before the
    call); None if it is within tolerance."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"[{name}] expected {output} {expected.dtype} {expected.shape}, got {actual.dtype} {actual.shape}"
    bad = ~same(expected, actual)
    if not np.any(bad):
        return None
    bound = allowed(name, output, arguments, expected)
    if bound is not None:
        with np.errstate(all="ignore"):
            near = np.abs(actual.astype(np.float64) - expected.astype(np.float64)) <= bound
            bad &= ~((np.isfinite(expected) & near) | (actual == expected))
    if not np.any(bad):
        return None
    first = np.unravel_index(int(np.argmax(bad)), bad.shape)
    limit = "equal bits" if bound is None else f"within {np.broadcast_to(bound, bad.shape)[first]:.3g}"
    return (
        f"[{name}] expected {output}{[int(i) for i in first]} = {expected[first]!r} ({limit}), got {actual[first]!r}; "
        f"{np.count_nonzero(bad)} of {bad.size} elements differ"
    )


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where a and b have equal bits, all NaNs counting as one value."""
    bits = {1: np.uint8, 4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    equal = np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)
    return (equal | ((a != a) & (b != b))).reshape(a.shape)


def allowed(name: str, output: str, arguments: dict[str, Any], expected: np.ndarray) -> np.ndarray | None:
    """The largest |actual − expected| at each element of an output; None where the kernel is exact."""
    if name not in RULES or expected.dtype.kind != "f":
        return None
    rule, wide = RULES[name], {key: widen(value) for key, value in arguments.items()}
    output, _, index = output.rstrip("]").partition("[")  # "params[3]" is the fourth of a list
    context = {"output": output, "index": int(index or 0), "expected": expected, "eps": float(np.finfo(expected.dtype).eps)}
    with np.errstate(all="ignore"):
        bound = np.asarray(rule(**{p: {**wide, **context}[p] for p in parameters_of(rule)}), np.float64)
    finite = np.nan_to_num(bound, nan=0.0, posinf=0.0)  # where an infinity took part the result is exact
    return finite + 8 * float(np.finfo(expected.dtype).smallest_subnormal)


@functools.cache
def parameters_of(rule: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(rule).parameters)


def widen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [widen(x) for x in value]
    array = isinstance(value, np.ndarray)
    return value.astype(np.float64) if array and value.dtype.kind == "f" else value


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the rule of kernels. Its parameters are any of: the kernel's arguments in float64, `output` (the name of
    the output), `index` (its place in a list operand), `expected` (its reference value), `eps` (of its type)."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def ulp(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The distance from |x| to the next larger value of dtype."""
    limit = np.finfo(dtype).max
    return np.spacing(np.minimum(np.abs(x), limit).astype(dtype)).astype(np.float64)


def roundings(n: int, eps: float, lanes: int = 1) -> float:
    """eps times the additions that one term goes through in a sum of n terms. The reference sums in float64, which for
    float64 is no better than any other order, so that there all n count."""
    if eps < 1e-10:
        return eps * (n + 4)
    chunks = -(-n // CHUNK)
    return eps * (min(n, CHUNK) / lanes + np.log2(lanes) + min(chunks, CHUNK) + chunks / CHUNK + 2)


# ---------------------------------------------------------------- unary and binary

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


# ---------------------------------------------------------------- products and sums


@rule("matmul")
def _(a: Any, b: Any, transpose_a: bool, transpose_b: bool, accumulate: bool, y: Any, expected: Any, eps: float) -> Any:
    a, b = (np.abs(m.swapaxes(-1, -2) if t else m) for m, t in ((a, transpose_a), (b, transpose_b)))
    bound = roundings(a.shape[-1], eps) * np.matmul(a, b).reshape(expected.shape)
    return bound + eps * np.abs(y) if accumulate else bound


@rule("linear_forward")
def _(x: Any, w: Any, b: Any, activation: Any, constant: float, output: str, expected: Any, eps: float) -> Any:
    size = np.abs(x) @ np.abs(w.T) + (0 if b is None else np.abs(b))
    bound = roundings(x.shape[1], eps) * size
    if activation is None or output == "z":
        return bound
    return max(DERIVATIVE_BOUND, abs(constant)) * bound + 4 * ulp(
        np.maximum(np.abs(expected), 2.0**-20 * size), expected.dtype
    )


@rule("linear_backward_input")
def _(dy: Any, w: Any, activation: Any, constant: float, eps: float) -> Any:
    slope = 1 if activation is None else max(DERIVATIVE_BOUND, abs(constant))
    return slope * (roundings(dy.shape[1], eps) + 5 * eps) * (np.abs(dy) @ np.abs(w))


@rule("linear_backward_weight")
def _(dy: Any, x: Any, accumulate: bool, dw: Any, db: Any, output: str, eps: float) -> Any:
    total = np.abs(dy.T) @ np.abs(x) if output == "dw" else np.sum(np.abs(dy), axis=0)
    before = (dw if output == "dw" else db) if accumulate else np.float64(0)
    return roundings(dy.shape[0], eps) * total + eps * np.abs(before)


def middle(x: np.ndarray, eps: float) -> float:
    """Roundings of a sum over the middle axis: lanes where it is the last."""
    return roundings(x.shape[1], eps, LANES if x.shape[2] == 1 else 1)


@rule("reduce_sum")
def _(x: np.ndarray, eps: float) -> np.ndarray:
    return middle(x, eps) * np.sum(np.abs(x), axis=1)


@rule("reduce_mean")
def _(x: np.ndarray, eps: float) -> np.ndarray:
    return (middle(x, eps) + eps) * np.sum(np.abs(x), axis=1) / x.shape[1]


@rule("reduce_var")
def _(x: np.ndarray, correction: int, eps: float) -> np.ndarray:
    """An error d of the mean adds r·d² to the sum of squares; rounding of x − mean is relative."""
    r = x.shape[1]
    mean_error = (middle(x, eps) + eps) * np.sum(np.abs(x), axis=1) / r
    squares = np.sum(np.square(x - np.mean(x, axis=1, keepdims=True)), axis=1)
    return ((middle(x, eps) + 4 * eps) * squares + r * np.square(mean_error)) / max(r - correction, 0)


def exponent_error(x: np.ndarray, axis: int, eps: float, roundings: float) -> np.ndarray:
    """Relative error of e^(x − m)/Σ, absolute error of its logarithm: x − m is rounded by |x − m|·u, the sum relatively
    by its roundings, the logarithm of the sum (at most log n) by itself."""
    m = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    distance = np.where(np.isfinite(x - m), np.abs(x - m), 0)
    return roundings + eps * (4 + 2 * distance + np.log(max(x.shape[axis], 1)))


@rule("reduce_logsumexp")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    m = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    share = np.exp(x - m) / np.sum(np.exp(x - m), axis=1, keepdims=True)
    inner = np.sum(share * exponent_error(x, 1, eps, middle(x, eps)), axis=1)
    return inner + eps * (np.abs(m[:, 0]) + np.abs(expected))


# ---------------------------------------------------------------- rows


@rule("softmax_forward")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return exponent_error(x, 1, eps, roundings(x.shape[1], eps, LANES)) * expected


@rule("log_softmax_forward")
def _(x: np.ndarray, expected: np.ndarray, eps: float) -> np.ndarray:
    return exponent_error(x, 1, eps, roundings(x.shape[1], eps, LANES)) + eps * (np.abs(expected) + np.abs(x))


@rule("softmax_backward")
def _(dy: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    total = np.sum(np.abs(dy * y), axis=1, keepdims=True)
    return np.abs(y) * (4 * eps * np.abs(dy) + (roundings(y.shape[1], eps, LANES) + 4 * eps) * total)


@rule("log_softmax_backward")
def _(dy: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    total = np.sum(np.abs(dy), axis=1, keepdims=True)
    return 2 * eps * np.abs(dy) + (roundings(y.shape[1], eps, LANES) + 4 * eps) * np.exp(y) * total


def weights_of(sample_weight: Any, rows: int) -> np.ndarray:
    return np.ones(rows) if sample_weight is None else np.abs(sample_weight)


def cross_entropy_error(logits: Any, q: Any, s: Any, denominator: Any, output: str, eps: float) -> Any:
    """Loss s·Σ q·(−log p) and gradient s·(p·Σ q − q)/denominator, with q ≥ 0 the weighted target."""
    adds = roundings(logits.shape[1], eps, LANES)
    shifted = logits - np.max(logits, axis=1, keepdims=True, initial=-np.inf)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    error = exponent_error(logits, 1, eps, adds)
    if output == "losses":
        terms = np.where(q == 0, 0, np.abs(q) * (error + (adds + 4 * eps) * np.abs(logp)))
        return s * np.sum(terms, axis=1) + s * eps * np.sum(np.where(q == 0, 0, np.abs(q * logits)), axis=1)
    total = np.sum(np.abs(q), axis=1, keepdims=True)
    return s[:, None] / np.abs(denominator) * (total * np.exp(logp) * (error + adds + 8 * eps) + 8 * eps * np.abs(q))


@rule("cross_entropy_forward")
def _(
    logits: Any, target: Any, class_weight: Any, sample_weight: Any, denominator: Any, ignore_index: int,
    label_smoothing: float, output: str, eps: float,
) -> Any:  # fmt: skip
    rows, cols = logits.shape
    v = np.ones(cols) if class_weight is None else class_weight
    kept = target != ignore_index
    one_hot = np.arange(cols) == np.where(kept, target, 0)[:, None]
    q = kept[:, None] * v * ((1 - label_smoothing) * one_hot + label_smoothing / max(cols, 1))
    return cross_entropy_error(logits, q, weights_of(sample_weight, rows), denominator, output, eps)


@rule("cross_entropy_probabilities_forward")
def _(
    logits: Any, target: Any, class_weight: Any, sample_weight: Any, denominator: Any, label_smoothing: float,
    output: str, eps: float,
) -> Any:  # fmt: skip
    rows, cols = logits.shape
    v = np.ones(cols) if class_weight is None else class_weight
    q = v * ((1 - label_smoothing) * target + label_smoothing / max(cols, 1))
    return cross_entropy_error(logits, q, weights_of(sample_weight, rows), denominator, output, eps)


@rule("cross_entropy_denominator")
def _(target: Any, class_weight: Any, sample_weight: Any, ignore_index: int, expected: Any, eps: float) -> Any:
    return (roundings(target.size, eps, LANES) + 2 * eps) * np.abs(expected)


def element_loss_rule(terms: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """`terms(x, t, v)` gives the sums of the absolute terms of the loss and of the derivative of an element."""

    def bound(
        x: Any, target: Any, pos_weight: Any, sample_weight: Any, denominator: Any, output: str, eps: float
    ) -> Any:
        s = weights_of(sample_weight, x.shape[0])
        loss, gradient = terms(x, target, 1.0 if pos_weight is None else np.abs(pos_weight))
        if output == "losses":
            return s * (roundings(x.shape[1], eps, LANES) + 6 * eps) * np.sum(loss, axis=1)
        return s[:, None] / np.abs(denominator) * 6 * eps * gradient

    return bound


def binary_cross_entropy_terms(x: Any, t: Any, v: Any) -> tuple[Any, Any]:
    loss = np.abs(t * np.maximum(np.log(x), -100)) + np.abs((1 - t) * np.maximum(np.log1p(-x), -100))
    return loss, np.abs(x - t) / np.maximum(x * (1 - x), 1e-12)


def sigmoid_cross_entropy_terms(x: Any, t: Any, v: Any) -> tuple[Any, Any]:
    positive = np.abs(1 - t) + v * np.abs(t)
    return positive * (np.abs(x) + elementwise.softplus(-np.abs(x))), positive


RULES["mse_forward"] = element_loss_rule(lambda x, t, v: (np.square(x - t), 2 * np.abs(x - t)))
RULES["l1_forward"] = element_loss_rule(lambda x, t, v: (np.abs(x - t), np.abs(np.sign(x - t))))
RULES["binary_cross_entropy_forward"] = element_loss_rule(binary_cross_entropy_terms)
RULES["sigmoid_cross_entropy_forward"] = element_loss_rule(sigmoid_cross_entropy_terms)


# ---------------------------------------------------------------- random numbers and optimizers


@rule("normal")
def _(mean: float, expected: np.ndarray) -> np.ndarray:
    return 4 * ulp(np.maximum(np.abs(expected), abs(mean)), expected.dtype)


@rule("gradient_norm")
def _(grads: Any, expected: np.ndarray, eps: float) -> np.ndarray:
    largest = max((g.size for g in grads), default=0)
    return (roundings(largest, eps, LANES) + eps * (len(grads) + 2)) * np.abs(expected)


@rule("clip_coefficient")
def _(expected: np.ndarray, eps: float) -> np.ndarray:
    return 2 * eps * np.abs(expected)


def root_error(variance: np.ndarray, error: np.ndarray) -> np.ndarray:
    return np.fmin(np.sqrt(error), error / (2 * np.sqrt(variance)))


def quotient_error(n: Any, n_error: Any, variance: Any, variance_error: Any, root: float, added: float, eps: float) -> Any:
    """Error of n/(√variance/root + added), to first order."""
    d = np.sqrt(variance) / root + added
    d_error = root_error(variance, variance_error) / root + 3 * eps * d
    return (n_error + np.abs(n) * d_error / d) / d + 2 * eps * np.abs(n / d)


@rule("sgd_step")
def _(hyper: Any, grads: Any, velocities: Any, params: Any, output: str, index: int, expected: Any, eps: float) -> Any:
    _, lr, decay, momentum, dampening = np.abs(hyper)
    p = np.abs(params[index])
    g = np.abs(grads[index]) + decay * p
    v = momentum * np.abs(velocities[index]) + (1 + dampening) * g if velocities else np.float64(0)
    if output == "velocities":
        return 4 * eps * v
    return 3 * eps * (p + np.abs(expected)) + 6 * eps * lr * (g + (1 + momentum) * v)


@rule("rmsprop_step")
def _(
    hyper: Any, grads: Any, square_averages: Any, grad_averages: Any, velocities: Any, params: Any, output: str,
    index: int, expected: Any, eps: float,
) -> Any:  # fmt: skip
    _, lr, decay, alpha, added, momentum = hyper
    p, share = params[index], 1 - alpha
    g, size = grads[index] + decay * p, np.abs(grads[index]) + np.abs(decay * p)
    s = alpha * square_averages[index] + share * g * g
    s_error = 6 * eps * (alpha * square_averages[index] + share * size * size)
    variance, variance_error = s, s_error
    if grad_averages:
        a = grad_averages[index] + share * (g - grad_averages[index])
        a_error = 8 * eps * (np.abs(grad_averages[index]) + share * size)
        variance, variance_error = s - a * a, s_error + 2 * np.abs(a) * a_error + 2 * eps * (s + a * a)
        if output == "grad_averages":
            return a_error
    if output == "square_averages":
        return s_error
    update_error = quotient_error(g, 2 * eps * size, variance, variance_error, 1.0, added, eps)
    update = np.abs(g) / (np.sqrt(variance) + added)
    if velocities and momentum > 0:
        update_error = update_error + 3 * eps * (momentum * np.abs(velocities[index]) + update)
        update = update + momentum * np.abs(velocities[index])
        if output == "velocities":
            return update_error
    return 3 * eps * (np.abs(p) + np.abs(expected)) + lr * (update_error + 3 * eps * update)


@rule("adagrad_step")
def _(hyper: Any, grads: Any, sums: Any, params: Any, output: str, index: int, expected: Any, eps: float) -> Any:
    step, lr, decay, lr_decay, added = hyper
    p = params[index]
    g, size = grads[index] + decay * p, np.abs(grads[index]) + np.abs(decay * p)
    s, s_error = sums[index] + g * g, 5 * eps * (sums[index] + size * size)
    if output == "sums":
        return s_error
    update_error = quotient_error(g, 3 * eps * size, s, s_error, 1.0, added, eps)
    return 3 * eps * (np.abs(p) + np.abs(expected)) + lr / (1 + (step - 1) * lr_decay) * update_error


@rule("adam_step", "adamw_step")
def _(
    hyper: Any, grads: Any, exp_avgs: Any, exp_avg_sqs: Any, max_exp_avg_sqs: Any, params: Any, output: str, index: int,
    expected: Any, eps: float,
) -> Any:  # fmt: skip
    _, lr, decay, beta1, beta2, added, power1, power2 = hyper
    p, m, v = params[index], exp_avgs[index], exp_avg_sqs[index]
    g, size = grads[index] + decay * p, np.abs(grads[index]) + np.abs(decay * p)  # AdamW's g lies within size too
    m_error = 8 * eps * (np.abs(m) + (1 - beta1) * size)
    v_error = 6 * eps * (beta2 * v + (1 - beta2) * size * size)
    if output != "params":
        return m_error if output == "exp_avgs" else v_error
    m, v = m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * g * g
    if max_exp_avg_sqs:
        v = np.maximum(max_exp_avg_sqs[index], v)
    update_error = quotient_error(m, m_error, v, v_error, np.sqrt(1 - power2), added, eps)
    return 3 * eps * (np.abs(p) + np.abs(expected)) + lr / (1 - power1) * update_error
