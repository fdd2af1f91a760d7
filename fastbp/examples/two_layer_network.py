"""A network of two layers, on column vectors, with every number of the forward and backward pass on paper.

z1 = W1·x + b1,  a1 = relu(z1),  ŷ = W2·a1 + b2,  loss = ½(ŷ - y)²

python -m fastbp.examples.two_layer_network
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp.examples import constant, report, variable

X = [[1.0], [2.0]]
Y = [[1.0]]
W1 = [[0.1, 0.2], [0.3, 0.4]]
B1 = [[0.1], [0.2]]
W2 = [[0.5, 0.6]]
B2 = [[0.3]]


def forward(w1, b1, w2, b2) -> tuple[fastbp.Tensor, fastbp.Tensor, fastbp.Tensor]:
    """z1, the prediction and the loss."""
    z1 = w1 @ constant(X) + b1
    prediction = w2 @ fastbp.relu(z1) + b2
    loss = 0.5 * (prediction - constant(Y)) ** 2
    return z1, prediction, loss.sum()


def by_autograd(lr: float = 0.1) -> dict[str, Any]:
    """Forward, backward and one step of gradient descent, the gradients by autograd."""
    w1, b1, w2, b2 = parameters = [variable(values) for values in (W1, B1, W2, B2)]
    z1, prediction, loss = forward(*parameters)
    loss.backward()
    numbers = {"z1": z1.tolist(), "prediction": prediction.item(), "loss": loss.item()}
    gradients = {"dw1": w1.grad, "db1": b1.grad, "dw2": w2.grad, "db2": b2.grad}
    with fastbp.no_grad():
        for p in parameters:
            p -= lr * p.grad
    updated = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    return {**numbers, **{name: value.tolist() for name, value in {**gradients, **updated}.items()}}


def by_hand() -> dict[str, Any]:
    """The same gradients by the four equations of backpropagation."""
    x, w2 = constant(X), constant(W2)
    z1, prediction, _ = forward(constant(W1), constant(B1), w2, constant(B2))
    dprediction = prediction - constant(Y)  # ∂½(ŷ - y)²/∂ŷ
    dw2 = dprediction @ fastbp.relu(z1).T  # the product gate: upstream times the other input
    dz1 = (w2.T @ dprediction) * (z1 > 0)  # back through W2, then through relu
    dw1 = dz1 @ x.T
    return {"dw1": dw1.tolist(), "db1": dz1.tolist(), "dw2": dw2.tolist(), "db2": dprediction.tolist()}


def nudge(step: float = 0.0001) -> dict[str, Any]:
    """Raising W1[0][0] by a little raises the loss by about that little times ∂L/∂W1[0][0] = 0.19."""
    moved = constant(W1)
    moved[0, 0] += step
    others = [constant(values) for values in (B1, W2, B2)]
    before, after = (forward(w1, *others)[2].item() for w1 in (constant(W1), moved))
    return {"rise": after - before}


def main() -> None:
    report(by_autograd, by_hand, nudge)


if __name__ == "__main__":
    main()
