"""Computational graphs: at every node, downstream gradient = upstream gradient × local gradient.

python -m fastbp.examples.computational_graphs
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp.examples import report, variable


def gym_bill() -> dict[str, Any]:
    """A bill: price a for b months at tax factor c; y = ab, z = yc. Which input moves the bill most?"""
    a, b, c = variable(50.0), variable(3.0), variable(1.2)
    y = a * b
    y.retain_grad()  # only leaves keep their gradient unless asked
    z = y * c
    z.backward()
    return {
        "y": y.item(),
        "z": z.item(),
        "dz_dy": y.grad.item(),
        "dz_da": a.grad.item(),
        "dz_db": b.grad.item(),
        "dz_dc": c.grad.item(),
    }


def shared_node() -> dict[str, Any]:
    """x = a + b, y = b + c, f = xy: b is used twice, so the gradients of its two paths add."""
    a, b, c = variable(-1.0), variable(3.0), variable(4.0)
    x, y = a + b, b + c
    x.retain_grad()
    y.retain_grad()
    f = x * y
    f.backward()
    return {
        "f": f.item(),
        "df_dx": x.grad.item(),
        "df_dy": y.grad.item(),
        "df_da": a.grad.item(),
        "df_db": b.grad.item(),
        "df_dc": c.grad.item(),
    }


def product_of_sum() -> dict[str, Any]:
    """f = (x + y) z at x = -2, y = 5, z = -4."""
    x, y, z = variable(-2.0), variable(5.0), variable(-4.0)
    q = x + y
    q.retain_grad()
    f = q * z
    f.backward()
    return {
        "q": q.item(),
        "f": f.item(),
        "df_dq": q.grad.item(),
        "df_dx": x.grad.item(),
        "df_dy": y.grad.item(),
        "df_dz": z.grad.item(),
    }


class SigmoidNeuron(fastbp.Function):
    """f = σ(w0·x0 + w1·x1 + w2) as one node: its local gradient is known in closed form, σ' = σ(1 - σ)."""

    @staticmethod
    def forward(ctx, w, x):
        f = fastbp.sigmoid((w[:2] * x).sum() + w[2])
        ctx.save_for_backward(w, x, f)
        return f

    @staticmethod
    def backward(ctx, df):
        w, x, f = ctx.saved_tensors
        ds = df * f * (1 - f)
        dw = fastbp.cat([ds * x, ds.reshape(1)])
        return dw, ds * w[:2]


def sigmoid_neuron_gates() -> dict[str, Any]:
    """Sigmoid neuron as a chain of small gates: mul, add, negate, exp, add one, one over."""
    w0, w1, w2 = variable(2.0), variable(-3.0), variable(-3.0)
    x0, x1 = variable(-1.0), variable(-2.0)
    s = w0 * x0 + w1 * x1 + w2
    f = 1 / (1 + fastbp.exp(-s))
    f.backward()
    return {"f": f.item(), "dw": [w.grad.item() for w in (w0, w1, w2)], "dx": [x.grad.item() for x in (x0, x1)]}


def sigmoid_neuron_node() -> dict[str, Any]:
    """Sigmoid neuron as one node: the same gradients from σ' = σ(1 - σ)."""
    w, x = variable([2.0, -3.0, -3.0]), variable([-1.0, -2.0])
    f = SigmoidNeuron.apply(w, x)
    f.backward()
    return {"f": f.item(), "dw": w.grad.tolist(), "dx": x.grad.tolist()}


def squared_norm() -> dict[str, Any]:
    """q = Wx, f = ‖q‖²: in vectors dW = 2q·xᵀ and dx = 2Wᵀq, each of the shape of its variable."""
    w, x = variable([[0.1, 0.5], [-0.3, 0.8]]), variable([0.2, 0.4])
    q = w @ x
    f = (q * q).sum()
    f.backward()
    return {"q": q.tolist(), "f": f.item(), "dw": w.grad.tolist(), "dx": x.grad.tolist()}


def elementwise_batch(rows: int = 100, cols: int = 4096) -> dict[str, Any]:
    """relu on 100 × 4096: the Jacobian would be 409,600 square, but it is diagonal and is never formed."""
    x = (fastbp.arange(rows * cols, dtype=fastbp.float64) - rows * cols / 2).reshape(rows, cols).requires_grad_()
    upstream = fastbp.full((rows, cols), 3.0, dtype=fastbp.float64)
    fastbp.relu(x).backward(upstream)
    # Upstream × diagonal is one product per element: the gradient is as large as the input, no larger.
    by_hand = upstream * (x.detach() > 0)
    return {
        "jacobian_entries": x.numel() ** 2,
        "gradient_entries": x.grad.numel(),
        "diagonal": x.grad.tolist() == by_hand.tolist(),
    }


def main() -> None:
    report(gym_bill, shared_node, product_of_sum, sigmoid_neuron_gates, sigmoid_neuron_node, squared_norm)
    report(elementwise_batch)


if __name__ == "__main__":
    main()
