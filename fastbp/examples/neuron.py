"""Neurons and layers by hand: a sigmoid neuron learns, a hidden layer answers, an affine layer passes gradients back.

python -m fastbp.examples.neuron
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp.examples import constant, report, variable


def train_sigmoid_neuron(lr: float = 0.1) -> dict[str, Any]:
    """One step of a sigmoid neuron a = σ(w·x) on the loss ½(y - a)²: w ← w - lr · ∂L/∂w."""
    x, y = constant([0.5, 0.8]), constant(1.0)
    w = variable([0.2, 0.4])
    a = fastbp.sigmoid(w @ x)
    loss = 0.5 * (y - a) ** 2
    loss.backward()
    # By hand: ∂L/∂a = a - y, da/ds = a(1 - a), ∂s/∂w = x.
    out = a.item()
    by_hand = [(out - 1) * out * (1 - out) * 0.5, (out - 1) * out * (1 - out) * 0.8]
    with fastbp.no_grad():  # an update is no part of the model: it is not recorded
        w -= lr * w.grad
    return {"loss": loss.item(), "dw": w.grad.tolist(), "by_hand": by_hand, "w": w.tolist()}


def hidden_layer() -> dict[str, Any]:
    """A layer of two sigmoid neurons, weights stored (in, out): σ(xW + b)."""
    x = constant([0.5, 0.8])
    w, b = constant([[0.1, 0.3], [0.2, 0.4]]), constant([0.1, 0.2])
    return {"y": fastbp.sigmoid(x @ w + b).tolist()}


def relu_derivative() -> dict[str, Any]:
    """ReLU passes the gradient where its input is positive and stops it elsewhere, at 0 too."""
    x = variable([-2.0, 0.0, 3.0, -1.5, 2.0])
    fastbp.relu(x).sum().backward()
    return {"derivative": x.grad.tolist()}


def sigmoid_derivative() -> dict[str, Any]:
    """σ' = y(1 - y): the output alone gives the derivative, so the input need not be kept."""
    x = variable([-2.0, 0.0, 0.5, 3.0])
    y = fastbp.sigmoid(x)
    y.sum().backward()
    y = y.detach()
    return {"derivative": x.grad.tolist(), "by_hand": (y * (1 - y)).tolist()}


def affine_batch() -> dict[str, Any]:
    """Y = XW + B for N samples: dX = dY·Wᵀ, dW = Xᵀ·dY, dB = column sums of dY."""
    x = variable([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [-1.0, 0.5, 2.0], [0.0, -2.0, 1.0]])
    w = variable([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    b = variable([1.0, -1.0])
    dy = constant([[1.0, -1.0], [0.5, 2.0], [-3.0, 1.0], [2.0, 0.25]])
    y = x @ w + b
    y.backward(dy)
    return {
        "dx": x.grad.tolist(),
        "dw": w.grad.tolist(),
        "db": b.grad.tolist(),
        "dx_by_hand": (dy @ w.detach().T).tolist(),
        "dw_by_hand": (x.detach().T @ dy).tolist(),
        "db_by_hand": dy.sum(0).tolist(),
    }


def affine_sample() -> dict[str, Any]:
    """Y = XW + B for one sample, X of shape (2,): the same rules, dW is the outer product of X and dY."""
    x = variable([1.0, 2.0])
    w = variable([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    b = variable([0.5, 0.0, -0.5])
    dy = constant([1.0, -2.0, 3.0])
    y = x @ w + b
    y.backward(dy)
    return {
        "y": y.tolist(),
        "dx": x.grad.tolist(),
        "dw": w.grad.tolist(),
        "db": b.grad.tolist(),
        "dx_by_hand": (w.detach() @ dy).tolist(),
        "dw_by_hand": (x.detach().reshape(2, 1) @ dy.reshape(1, 3)).tolist(),
    }


def main() -> None:
    report(train_sigmoid_neuron, hidden_layer, relu_derivative, sigmoid_derivative, affine_batch, affine_sample)


if __name__ == "__main__":
    main()
