"""Rules of random numbers and optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.kernels.tolerance.rules import LANES, roundings, rule, ulp


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


def quotient_error(
    n: Any, n_error: Any, variance: Any, variance_error: Any, root: float, added: float, eps: float
) -> Any:
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
