"""Optimizer steps over lists of tensors, and gradient clipping.

hyper is a float64 tensor of live numbers: hyper[0] the step count, hyper[1] the learning rate, hyper[2] the weight
decay λ, then those of the optimizer. Numbers made of hyper alone (lr/(1 − β₁ᵗ), 1 − β₂, ...) are computed in float64
and rounded to the type T of the tensors; arithmetic on elements is in T. g is the gradient, p the parameter. With λ = 0
the parameter is not added, so that an infinite one leaves the gradient alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastbp.kernels.facts import kernel, size


def over_parameters(operations: int) -> Callable[..., int]:
    """Operations counted by the elements of all parameters."""
    return lambda params, **_: operations * size(params)


def decayed(g: np.ndarray, p: np.ndarray, decay: float) -> np.ndarray:
    """The gradient with the weight decay's part."""
    return g + p.dtype.type(decay) * p if decay else g


def lerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """a + share·(b − a), from the nearer end, as PyTorch's."""
    w = a.dtype.type(share)
    return a + w * (b - a) if share < 0.5 else b - (1 - w) * (b - a)


@kernel(inplace="hyper", partition="none", dtypes="float64")
def optimizer_advance(hyper: np.ndarray) -> None:
    """hyper[0] += 1: the next step. Called before the step."""
    hyper[0] += 1


@kernel(inplace="hyper", partition="none", dtypes="float64")
def adam_advance(hyper: np.ndarray) -> None:
    """hyper[0] += 1 and the powers of the betas: hyper[6] *= hyper[3], hyper[7] *= hyper[4]. Called before the step."""
    hyper[0] += 1
    hyper[6:8] *= hyper[3:5]


@kernel(inputs="hyper grads*", inplace="velocities* params*", whole="hyper", operations=over_parameters(6))
def sgd_step(
    hyper: np.ndarray,
    grads: list[np.ndarray],
    velocities: list[np.ndarray],
    nesterov: bool,
    params: list[np.ndarray],
) -> None:
    """Stochastic gradient descent, hyper = (step, lr, λ, momentum μ, dampening τ):

        g ← g + λ·p;   v ← g at step 1, else μ·v + (1 − τ)·g;   g ← g + μ·v if nesterov, else v;   p ← p − lr·g

    Without velocities ([]) or with μ = 0 the middle two are left out. As PyTorch's SGD.
    """
    step, lr, decay, momentum, dampening = hyper
    for i, p in enumerate(params):
        T = p.dtype.type
        g = decayed(grads[i], p, decay)
        if velocities and momentum:
            v = velocities[i]
            v[...] = g if step <= 1 else T(momentum) * v + T(1 - dampening) * g
            g = g + T(momentum) * v if nesterov else v
        p -= T(lr) * g


@kernel(
    inputs="hyper grads*",
    inplace="square_averages* grad_averages* velocities* params*",
    whole="hyper",
    operations=over_parameters(12),
)
def rmsprop_step(
    hyper: np.ndarray,
    grads: list[np.ndarray],
    square_averages: list[np.ndarray],
    grad_averages: list[np.ndarray],
    velocities: list[np.ndarray],
    params: list[np.ndarray],
) -> None:
    """RMSprop, hyper = (step, lr, λ, α, ε, momentum μ):

        g ← g + λ·p;   s ← α·s + (1 − α)·g²;   a ← a + (1 − α)·(g − a);   d = √(s − a²) + ε
        v ← μ·v + g/d;   p ← p − lr·v

    Without grad_averages ([]) d = √s + ε; without velocities ([]) or with μ = 0 p ← p − lr·g/d.
    As PyTorch's RMSprop.
    """
    _, lr, decay, alpha, eps, momentum = hyper
    for i, p in enumerate(params):
        T = p.dtype.type
        g = decayed(grads[i], p, decay)
        s = square_averages[i]
        s[...] = T(alpha) * s + T(1 - alpha) * (g * g)
        variance = s
        if grad_averages:
            a = grad_averages[i]
            a[...] = lerp(a, g, 1 - alpha)
            variance = s - a * a
        g = g / (np.sqrt(variance) + T(eps))
        if velocities and momentum > 0:
            v = velocities[i]
            v[...] = T(momentum) * v + g
            g = v
        p -= T(lr) * g


@kernel(inputs="hyper grads*", inplace="sums* params*", whole="hyper", operations=over_parameters(8))
def adagrad_step(hyper: np.ndarray, grads: list[np.ndarray], sums: list[np.ndarray], params: list[np.ndarray]) -> None:
    """Adagrad, hyper = (step t, lr, λ, lr_decay η, ε):

        g ← g + λ·p;   s ← s + g²;   p ← p − lr/(1 + (t − 1)·η)·g/(√s + ε)

    As PyTorch's Adagrad.
    """
    step, lr, decay, lr_decay, eps = hyper
    for g, s, p in zip(grads, sums, params):
        T = p.dtype.type
        g = decayed(g, p, decay)
        s += g * g
        p -= T(lr / (1 + (step - 1) * lr_decay)) * (g / (np.sqrt(s) + T(eps)))


def adam(
    hyper: np.ndarray,
    grads: list[np.ndarray],
    exp_avgs: list[np.ndarray],
    exp_avg_sqs: list[np.ndarray],
    max_exp_avg_sqs: list[np.ndarray],
    params: list[np.ndarray],
    decoupled: bool,
) -> None:
    """Adam; the weight decay acts on the parameter if decoupled, else on the gradient."""
    _, lr, decay, beta1, beta2, eps, power1, power2 = hyper
    for i, p in enumerate(params):
        T = p.dtype.type
        g = grads[i]
        if decoupled and decay:
            p *= T(1 - lr * decay)
        elif decay:
            g = decayed(g, p, decay)
        m, v = exp_avgs[i], exp_avg_sqs[i]
        m[...] = lerp(m, g, 1 - beta1)
        v[...] = T(beta2) * v + T(1 - beta2) * (g * g)
        if max_exp_avg_sqs:
            v = np.maximum(max_exp_avg_sqs[i], v, out=max_exp_avg_sqs[i])
        p -= T(lr / (1 - power1)) * (m / (np.sqrt(v) * T(1 / np.sqrt(1 - power2)) + T(eps)))


@kernel(
    inputs="hyper grads*",
    inplace="exp_avgs* exp_avg_sqs* max_exp_avg_sqs* params*",
    whole="hyper",
    operations=over_parameters(16),
)
def adam_step(
    hyper: np.ndarray,
    grads: list[np.ndarray],
    exp_avgs: list[np.ndarray],
    exp_avg_sqs: list[np.ndarray],
    max_exp_avg_sqs: list[np.ndarray],
    params: list[np.ndarray],
) -> None:
    """Adam, hyper = (step, lr, λ, β₁, β₂, ε, β₁ᵗ, β₂ᵗ):

        g ← g + λ·p;   m ← m + (1 − β₁)·(g − m);   v ← β₂·v + (1 − β₂)·g²;   w ← max(w, v)
        p ← p − lr/(1 − β₁ᵗ)·m/(√w·(1/√(1 − β₂ᵗ)) + ε)

    w is v without max_exp_avg_sqs ([]), else AMSGrad's maximum. As PyTorch's Adam (Kingma and Ba, 2015).
    """
    adam(hyper, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, params, decoupled=False)


@kernel(
    inputs="hyper grads*",
    inplace="exp_avgs* exp_avg_sqs* max_exp_avg_sqs* params*",
    whole="hyper",
    operations=over_parameters(16),
)
def adamw_step(
    hyper: np.ndarray,
    grads: list[np.ndarray],
    exp_avgs: list[np.ndarray],
    exp_avg_sqs: list[np.ndarray],
    max_exp_avg_sqs: list[np.ndarray],
    params: list[np.ndarray],
) -> None:
    """AdamW: p ← p·(1 − lr·λ), then Adam's step without λ; hyper as for adam_step. As PyTorch's AdamW (Loshchilov and
    Hutter, 2019)."""
    adam(hyper, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, params, decoupled=True)


@kernel(inputs="grads*", outputs="y", partition="none", operations=lambda grads, **_: 2 * size(grads))
def gradient_norm(grads: list[np.ndarray], y: np.ndarray) -> None:
    """y[0] = √(Σ over all elements of all tensors of g²), summed tensor by tensor."""
    y[...] = np.sqrt(sum((np.sum(np.square(g, dtype=np.float64)) for g in grads), 0.0))


@kernel(inputs="norm", outputs="y", partition="none")
def clip_coefficient(norm: np.ndarray, max_norm: float, y: np.ndarray) -> None:
    """y[0] = min(1, max_norm/(norm + 1e-6)); NaN stays NaN."""
    T = norm.dtype.type
    y[...] = np.minimum(T(1), T(max_norm) / (norm + T(1e-6)))


@kernel(inputs="coefficient", inplace="grads*", whole="coefficient", operations=lambda grads, **_: size(grads))
def scale_gradients(coefficient: np.ndarray, grads: list[np.ndarray]) -> None:
    """g ← g·coefficient for every tensor; coefficient (1,)."""
    for g in grads:
        g *= coefficient[0]
