"""Matrix products: plain, and those of a linear layer with bias, activation and its derivative.

Products are evaluated in float64 and rounded once to the type of the output.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.facts import kernel
from fastbp.kernels.reference import elementwise


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a·b over the last two axes in float64; an empty or negative-zero sum is +0."""
    return np.matmul(a.astype(np.float64), b.astype(np.float64)) + 0.0


def require(op: str, name: str, operand: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """The checks whose lack NumPy would not notice, or would name by its own terms."""
    if operand.shape != shape or operand.dtype != dtype:
        raise ValueError(
            f"[{op}] expected {name} of shape {shape} and {dtype}, got {operand.shape} and {operand.dtype}"
        )


def activate(activation: str, constant: float, *operands: np.ndarray | None) -> None:
    """Apply a unary kernel by its full name, with the constant if it has one; outputs last."""
    run = getattr(elementwise, activation)
    constants = [constant] * len(run.facts.constants)
    run(*operands[:-1], *constants, operands[-1])


def matmul_operations(a: np.ndarray, transpose_a: bool, y: np.ndarray, **_: object) -> int:
    return 2 * y.size * a.shape[-2 if transpose_a else -1]


@kernel(inputs="a b", outputs="y", partition="output rows", operations=matmul_operations)
def matmul(a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool, accumulate: bool, y: np.ndarray) -> None:
    """y (+)= a·b: a (batch, m, k), or (batch, k, m) if transpose_a; b (batch, k, n), or (batch, n, k) if transpose_b;
    y (batch, m, n). A batch of 1 in a or b serves all; two-dimensional operands are a batch of 1."""
    total = product(a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b)
    y[...] = y + total.astype(y.dtype).reshape(y.shape) if accumulate else total.reshape(y.shape)


@kernel(
    inputs="x w b?",
    outputs="z? y",
    whole="w b",
    partition="rows",
    operations=lambda x, w, **_: 2 * x.shape[0] * w.shape[0] * w.shape[1],
)
def linear_forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    activation: str | None,
    constant: float,
    z: np.ndarray | None,
    y: np.ndarray,
) -> None:
    """z = x·wᵀ + b, y = activation(z): x (m, k), w (n, k), b (n,), z and y (m, n). activation names a unary operation,
    constant is its by-value constant; without one y = z."""
    require("linear_forward", "w", w, (w.shape[0], x.shape[1]), x.dtype)
    total = product(x, w.T).astype(y.dtype)
    if b is not None:
        require("linear_forward", "b", b, (w.shape[0],), x.dtype)
        total = total + b
    if z is not None:
        z[...] = total
    if activation is None:
        y[...] = total
    else:
        activate(f"{activation}_forward", constant, total, y)


@kernel(
    inputs="dy w s?",
    outputs="dx",
    whole="w",
    partition="rows",
    operations=lambda dy, w, **_: 2 * dy.shape[0] * w.shape[0] * w.shape[1],
)
def linear_backward_input(
    dy: np.ndarray, w: np.ndarray, activation: str | None, constant: float, s: np.ndarray | None, dx: np.ndarray
) -> None:
    """dx = (dy·w) ⊙ activation'(s): dy (m, n), w (n, k), s and dx (m, k); s is what that unary operation saves."""
    total = product(dy, w).astype(dx.dtype)
    if activation is None:
        dx[...] = total
    else:
        activate(f"{activation}_backward", constant, total, s, dx)


@kernel(
    inputs="dy x", outputs="dw db?", partition="output rows", operations=lambda dy, x, **_: 2 * dy.size * x.shape[1]
)
def linear_backward_weight(
    dy: np.ndarray, x: np.ndarray, accumulate: bool, dw: np.ndarray, db: np.ndarray | None
) -> None:
    """dw (+)= dyᵀ·x and db (+)= column sums of dy: dy (m, n), x (m, k), dw (n, k), db (n,)."""
    matmul(dy, x, True, False, accumulate, dw)
    if db is not None:
        total = (np.sum(dy, axis=0, dtype=np.float64) + 0.0).astype(db.dtype)
        db[...] = db + total if accumulate else total
