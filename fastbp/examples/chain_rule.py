"""Derivatives and the chain rule: what a gradient says, how it passes through a gate, and how to check it.

python -m fastbp.examples.chain_rule
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp.examples import constant, report, variable


def polynomial() -> dict[str, Any]:
    """f(x, y) = x² + 3xy + y² at (1, 2): a partial derivative is the rate at which f moves with one input."""

    def f(x: fastbp.Tensor, y: fastbp.Tensor) -> fastbp.Tensor:
        return x * x + 3 * x * y + y * y

    x, y = variable(1.0), variable(2.0)
    value = f(x, y)
    value.backward()
    # Moving x by 0.01 moves f by nearly 0.01 · ∂f/∂x; what is left over is the curvature, 0.01² here.
    moved = f(constant(1.01), constant(2.0)).item() - value.item()
    return {"f": value.item(), "df_dx": x.grad.item(), "df_dy": y.grad.item(), "moved": moved}


def scaled_square() -> dict[str, Any]:
    """z = 2x² at x = 3: the forward pass computes 18, the backward pass 4x = 12."""
    x = variable(3.0)
    z = 2 * x * x
    z.backward()
    return {"z": z.item(), "dz_dx": x.grad.item()}


def square_of_sum(x_value: float = 2.0, y_value: float = 3.0) -> dict[str, Any]:
    """z = t² with t = x + y: ∂z/∂x = dz/dt · ∂t/∂x = 2t · 1."""
    x, y = variable(x_value), variable(y_value)
    t = x + y
    z = t * t
    z.backward()
    return {"t": t.item(), "z": z.item(), "dz_dx": x.grad.item(), "dz_dy": y.grad.item()}


def numerical_check(h: float = 1e-4) -> dict[str, Any]:
    """d(x²)/dx at 3 by central difference: (f(x + h) - f(x - h)) / 2h agrees with 2x to rounding."""

    def f(x: fastbp.Tensor) -> fastbp.Tensor:
        return x * x

    numerical = (f(constant(3.0 + h)) - f(constant(3.0 - h))) / (2 * h)
    x = variable(3.0)
    f(x).backward()
    return {
        "numerical": numerical.item(),
        "analytic": x.grad.item(),
        "difference": abs(numerical.item() - x.grad.item()),
        "gradcheck": fastbp.gradcheck(f, (variable(3.0),)),
    }


def product_gate() -> dict[str, Any]:
    """The product gate in vectors: for ŷ = w·a1 and loss ½(ŷ - y)², the gradient of w is (ŷ - y)·a1ᵀ."""
    a1 = constant([[3.0], [4.0]])
    y = constant([[5.0]])
    w = variable([[1.0, 1.0]])
    error = w @ a1 - y
    (0.5 * error * error).sum().backward()
    return {"error": error.item(), "dw": w.grad.tolist(), "by_hand": (error.detach() @ a1.T).tolist()}


def gates(upstream: float = 2.0) -> dict[str, Any]:
    """The three gates at (3, -4): add copies the upstream gradient, mul swaps the inputs, max routes it."""
    gradients: dict[str, Any] = {}
    for name, gate in (("add", fastbp.add), ("mul", fastbp.mul), ("max", fastbp.maximum)):
        a, b = variable(3.0), variable(-4.0)
        gate(a, b).backward(constant(upstream))
        gradients[name] = [a.grad.item(), b.grad.item()]
    return gradients


def main() -> None:
    report(polynomial, scaled_square, square_of_sum, numerical_check, product_gate, gates)


if __name__ == "__main__":
    main()
