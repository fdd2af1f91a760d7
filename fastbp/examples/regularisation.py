"""Regularisation: a penalty on the weights added to a data loss, and what it does to the solution.

L1 adds λ Σ|w|: its gradient λ sign(w) pushes every weight by the same amount, so weak ones end at 0.
L2 adds λ Σw²: its gradient 2λw shrinks every weight in proportion, so none ends at 0 and none stays large.

python -m fastbp.examples.regularisation
"""

from __future__ import annotations

from typing import Any

import fastbp
from fastbp import optim
from fastbp.examples import constant, report, variable
from fastbp.nn.functional import l1_penalty, l2_penalty


def penalty_gradients(strength: float = 0.1) -> dict[str, Any]:
    """The gradient of a penalised loss is the data gradient plus λ sign(w), or plus 2λw."""
    x, y = constant([1.0, 2.0, 3.0]), constant(1.0)
    numbers: dict[str, Any] = {}
    for name, penalty in (("none", None), ("l1", l1_penalty), ("l2", l2_penalty)):
        w = variable([0.5, -1.0, 0.0])
        loss = (w @ x - y) ** 2
        if penalty is not None:
            loss = loss + strength * penalty(w)
        loss.backward()
        numbers[f"loss_{name}"] = loss.item()
        numbers[f"dw_{name}"] = w.grad.tolist()
    return numbers


def regression(strength: float = 0.5, steps: int = 300) -> dict[str, Any]:
    """Six features of which two matter: no penalty fits the noise, L1 silences the rest, L2 shrinks all."""
    fastbp.manual_seed(1)
    truth = constant([2.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    x = fastbp.randn(40, 6, dtype=fastbp.float64)
    y = x @ truth + fastbp.randn(40, dtype=fastbp.float64)
    weights = {}
    for name, penalty in (("none", None), ("l1", l1_penalty), ("l2", l2_penalty)):
        w = variable([0.0] * 6)
        optimizer = optim.SGD([w], lr=0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = ((x @ w - y) ** 2).mean()
            if penalty is not None:
                loss = loss + strength * penalty(w)
            loss.backward()
            optimizer.step()
        weights[name] = [round(value, 3) for value in w.tolist()]
    return weights


def weight_decay(strength: float = 0.1, steps: int = 20) -> dict[str, Any]:
    """For plain gradient descent an L2 penalty ½λΣw² and `weight_decay=λ` are one and the same."""
    x, y = constant([[1.0, 2.0], [-1.0, 0.5], [0.25, 3.0]]), constant([1.0, -1.0, 2.0])
    by_penalty, by_decay = variable([0.3, -0.7]), variable([0.3, -0.7])
    penalised = optim.SGD([by_penalty], lr=0.1)
    decayed = optim.SGD([by_decay], lr=0.1, weight_decay=strength)
    for _ in range(steps):
        penalised.zero_grad()
        decayed.zero_grad()
        (((x @ by_penalty - y) ** 2).mean() + 0.5 * strength * l2_penalty(by_penalty)).backward()
        ((x @ by_decay - y) ** 2).mean().backward()
        penalised.step()
        decayed.step()
    return {"by_penalty": by_penalty.tolist(), "by_decay": by_decay.tolist()}


def main() -> None:
    report(penalty_gradients, regression, weight_decay)


if __name__ == "__main__":
    main()
