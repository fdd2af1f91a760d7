"""Linear regression: one step by hand, then `nn.Linear(1, 1)` trained by the loop that every model uses.

python -m fastbp.examples.linear_regression
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp import nn, optim
from fastbp.examples import constant, report, variable


def step_by_hand(lr: float = 0.1) -> dict[str, Any]:
    """ŷ = wx + b with x = 2, y = 4, w = 3, b = 1 on the loss (y - ŷ)²: one step lands on the target."""
    x, y = constant(2.0), constant(4.0)
    w, b = variable(3.0), variable(1.0)
    prediction = w * x + b
    loss = (y - prediction) ** 2
    loss.backward()
    numbers = {"prediction": prediction.item(), "loss": loss.item(), "dw": w.grad.item(), "db": b.grad.item()}
    with fastbp.no_grad():
        w -= lr * w.grad
        b -= lr * b.grad
        w.grad.zero_()
        b.grad.zero_()
    prediction = w * x + b
    loss = (y - prediction) ** 2
    return {**numbers, "w": w.item(), "b": b.item(), "new_prediction": prediction.item(), "new_loss": loss.item()}


def forgotten_zeroing() -> dict[str, Any]:
    """Without zeroing, gradients accumulate: a second backward pass adds its gradient to the first."""
    x, y = constant(2.0), constant(4.0)
    w = variable(3.0)
    gradients = []
    for _ in range(3):
        ((y - (w * x + 1)) ** 2).backward()
        gradients.append(w.grad.item())
    return {"dw": gradients}


def absolute_error() -> dict[str, Any]:
    """|ŷ - y| has a kink at 0, where its gradient is taken as 0; elsewhere it is the sign of the error."""
    prediction, y = variable([3.0, 4.0, 5.0]), constant(4.0)
    (prediction - y).abs().sum().backward()
    return {"gradient": prediction.grad.tolist()}


def train_linear(epochs: int = 200, lr: float = 0.05, verbose: bool = False) -> dict[str, Any]:
    """`Linear(1, 1)` on y = 2x + 1 with MSE: zero_grad → predict → loss → backward → step."""
    fastbp.manual_seed(0)
    x = fastbp.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    y = 2 * x + 1
    model = nn.Linear(1, 1)
    loss_function = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=lr)
    losses = []
    for epoch in range(1, epochs + 1):
        optimizer.zero_grad()
        prediction = model(x)
        loss = loss_function(prediction, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if verbose and epoch % 20 == 0:
            print(f"    epoch {epoch:3d}   loss {loss.item():.6f}")
    weight, bias = (parameter.item() for parameter in model.parameters())
    return {"weight": weight, "bias": bias, "losses": losses}


def main() -> None:
    report(step_by_hand, forgotten_zeroing, absolute_error)
    print("Linear(1, 1) on y = 2x + 1")
    result = train_linear(verbose=True)
    print(f"    y = {result['weight']:.4f} x + {result['bias']:.4f}")


if __name__ == "__main__":
    main()
