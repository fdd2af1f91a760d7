"""What each optimizer does with a gradient g, in a few lines, beside the class that does the same.

python -m fastbp.examples.optimizers
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import fastbp
from fastbp import optim
from fastbp.examples import report, variable

LR = 0.02
START = [4.0, 1.0]
CURVATURE = [1.0, 25.0]  # a valley: flat along the first axis, steep along the second

# (weight, its gradient, its memory from step to step, the step's number) → the weight after the step.
Rule = Callable[[float, float, dict[str, float], int], float]


def gradient_descent(w: float, g: float, memory: dict[str, float], step: int) -> float:
    """Plain gradient descent: w ← w - lr·g. Steep directions limit the step, so flat ones are slow."""
    return w - LR * g


def momentum(w: float, g: float, memory: dict[str, float], step: int) -> float:
    """Momentum: the step is a running sum of gradients, v ← 0.9v + g."""
    memory["v"] = 0.9 * memory.get("v", 0.0) + g
    return w - LR * memory["v"]


def rmsprop(w: float, g: float, memory: dict[str, float], step: int) -> float:
    """RMSprop: the gradient divided by its running size, s ← 0.99s + 0.01g²."""
    memory["s"] = 0.99 * memory.get("s", 0.0) + 0.01 * g * g
    return w - LR * g / (math.sqrt(memory["s"]) + 1e-8)


def adam(w: float, g: float, memory: dict[str, float], step: int) -> float:
    """Adam: momentum over size; both start at 0, and the division by 1 - βᵗ makes up for it."""
    memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * g
    memory["s"] = 0.999 * memory.get("s", 0.0) + 0.001 * g * g
    m, s = memory["m"] / (1 - 0.9**step), memory["s"] / (1 - 0.999**step)
    return w - LR * m / (math.sqrt(s) + 1e-8)


def adamw(w: float, g: float, memory: dict[str, float], step: int) -> float:
    """AdamW: the weight shrinks by lr·λ on its own, apart from the gradient; then Adam's step."""
    return adam(w * (1 - LR * 0.01), g, memory, step)


RULES: dict[Rule, Callable[[list[fastbp.Tensor]], optim.Optimizer]] = {
    gradient_descent: lambda weights: optim.SGD(weights, lr=LR),
    momentum: lambda weights: optim.SGD(weights, lr=LR, momentum=0.9),
    rmsprop: lambda weights: optim.RMSprop(weights, lr=LR, alpha=0.99, eps=1e-8),
    adam: lambda weights: optim.Adam(weights, lr=LR, betas=(0.9, 0.999), eps=1e-8),
    adamw: lambda weights: optim.AdamW(weights, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
}


def by_hand(rule: Rule, steps: int) -> list[float]:
    """The weights after some steps down the valley ½Σ cᵢwᵢ², whose gradient is cᵢwᵢ."""
    weights = list(START)
    memories: list[dict[str, float]] = [{} for _ in weights]
    for step in range(1, steps + 1):
        weights = [rule(w, c * w, memory, step) for w, c, memory in zip(weights, CURVATURE, memories)]
    return weights


def by_class(rule: Rule, steps: int) -> list[float]:
    """The same descent by autograd and the optimizer class."""
    w, curvature = variable(START), fastbp.tensor(CURVATURE, dtype=fastbp.float64)
    optimizer = RULES[rule]([w])
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * curvature * w * w).sum().backward()
        optimizer.step()
    return w.tolist()


def valley(steps: int = 100) -> dict[str, Any]:
    """From (4, 1) down a valley to (0, 0) in 100 steps: where each rule arrives."""
    return {rule.__name__: [round(w, 6) for w in by_hand(rule, steps)] for rule in RULES}


def main() -> None:
    for rule in RULES:
        print(rule.__doc__)
    report(valley)


if __name__ == "__main__":
    main()
