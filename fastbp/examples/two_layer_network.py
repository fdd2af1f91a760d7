"""A network of two layers, on column vectors, with every number of the forward and backward pass on paper.

z1 = W1·x + b1,  a1 = relu(z1),  ŷ = W2·a1 + b2,  loss = ½(ŷ - y)²

python -m fastbp.examples.two_layer_network
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp import nn
from fastbp.examples import constant, report, variable

X = [[1.0], [2.0]]
Y = [[1.0]]
W1 = [[0.1, 0.2], [0.3, 0.4]]
B1 = [[0.1], [0.2]]
W2 = [[0.5, 0.6]]
B2 = [[0.3]]


def forward(x, y, w1, b1, w2, b2) -> tuple[fastbp.Tensor, ...]:
    """z1, a1, the prediction and the loss."""
    z1 = w1 @ x + b1
    a1 = fastbp.relu(z1)
    prediction = w2 @ a1 + b2
    loss = 0.5 * (prediction - y) ** 2
    return z1, a1, prediction, loss.sum()


def by_autograd(lr: float = 0.1) -> dict[str, Any]:
    """Forward, backward and one step of gradient descent, the gradients by autograd."""
    x, y = constant(X), constant(Y)
    w1, b1, w2, b2 = parameters = [variable(values) for values in (W1, B1, W2, B2)]
    z1, a1, prediction, loss = forward(x, y, *parameters)
    loss.backward()
    numbers = {"z1": z1.tolist(), "a1": a1.tolist(), "prediction": prediction.item(), "loss": loss.item()}
    gradients = {"dw1": w1.grad, "db1": b1.grad, "dw2": w2.grad, "db2": b2.grad}
    with fastbp.no_grad():
        for p in parameters:
            p -= lr * p.grad
    updated = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    return {**numbers, **{name: value.tolist() for name, value in {**gradients, **updated}.items()}}


def by_hand() -> dict[str, Any]:
    """The same gradients by the four equations of backpropagation."""
    x, y, w2 = constant(X), constant(Y), constant(W2)
    z1, a1, prediction, _ = forward(x, y, constant(W1), constant(B1), w2, constant(B2))
    dprediction = prediction - y  # ∂½(ŷ - y)²/∂ŷ
    dw2 = dprediction @ a1.T  # the product gate: upstream times the other input
    dz1 = (w2.T @ dprediction) * (z1 > 0)  # back through W2, then through relu
    dw1 = dz1 @ x.T
    return {"dw1": dw1.tolist(), "db1": dz1.tolist(), "dw2": dw2.tolist(), "db2": dprediction.tolist()}


def by_modules() -> dict[str, Any]:
    """A classifier of the same shape by the modules of nn, with a batch of rows and cross-entropy."""
    x, target = constant([[1.0, 2.0], [-1.0, 0.5]]), fastbp.tensor([0, 1])
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    weights = {"0.weight": W1, "0.bias": [0.1, 0.2], "2.weight": [[0.5, 0.6], [-0.4, 0.2]], "2.bias": [0.3, 0.0]}
    model.load_state_dict({name: constant(values) for name, values in weights.items()})
    scores = model(x)
    loss = nn.functional.cross_entropy(scores, target)
    loss.backward()
    gradients = {f"d{name}": p.grad.tolist() for name, p in model.named_parameters()}
    return {"scores": scores.tolist(), "loss": loss.item(), **gradients}


def nudge(step: float = 0.0001) -> dict[str, Any]:
    """Raising W1[0][0] by a little raises the loss by about that little times ∂L/∂W1[0][0] = 0.19."""
    moved = constant(W1)
    moved[0, 0] += step
    data, others = (constant(X), constant(Y)), [constant(values) for values in (B1, W2, B2)]
    before, after = (forward(*data, w1, *others)[3].item() for w1 in (constant(W1), moved))
    return {"rise": after - before}


def main() -> None:
    report(by_autograd, by_hand, by_modules, nudge)


if __name__ == "__main__":
    main()
