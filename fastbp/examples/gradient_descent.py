"""Gradient descent on the embedded digits: how many samples a step sees, which rule it follows, where it starts.

python -m fastbp.examples.gradient_descent
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import fastbp
from fastbp import data, nn, optim

MakeOptimizer = Callable[[Iterable[fastbp.Tensor]], optim.Optimizer]

# One line each: the batch decides how noisy the gradient is and how many steps an epoch has, the rule what a step does.
# Fewer steps of a less noisy gradient want larger steps: the learning rate grows with the batch.
BATCHES: dict[str, tuple[int | None, MakeOptimizer]] = {
    "full batch": (None, lambda weights: optim.SGD(weights, lr=1.0)),
    "stochastic": (1, lambda weights: optim.SGD(weights, lr=0.02)),
    "mini-batches of 32": (32, lambda weights: optim.SGD(weights, lr=0.2)),
    "mini-batches of 64": (64, lambda weights: optim.SGD(weights, lr=0.3)),
    "mini-batches of 128": (128, lambda weights: optim.SGD(weights, lr=0.4)),
}
OPTIMIZERS: dict[str, tuple[int | None, MakeOptimizer]] = {
    "SGD": (64, lambda weights: optim.SGD(weights, lr=0.05)),
    "SGD with momentum": (64, lambda weights: optim.SGD(weights, lr=0.05, momentum=0.9)),
    "RMSprop": (64, lambda weights: optim.RMSprop(weights, lr=0.003)),
    "Adam": (64, lambda weights: optim.Adam(weights, lr=0.005)),
    "AdamW": (64, lambda weights: optim.AdamW(weights, lr=0.005, weight_decay=0.01)),
}


@dataclass(frozen=True)
class Run:
    """One training run: the loss on all training samples after each epoch, the share of test samples recognised."""

    steps: int
    losses: list[float]
    accuracy: float
    model: nn.Module


def train(batch: int | None, make_optimizer: MakeOptimizer, epochs: int = 5, seed: int = 0) -> Run:
    """Trains 64 → 32 → 10 with ReLU and cross-entropy; `batch` samples a step, all of them for None."""
    x, y = (fastbp.from_numpy(part) for part in data.load_digits("train"))
    fastbp.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    loss_function = nn.CrossEntropyLoss()
    optimizer = make_optimizer(model.parameters())
    batches = data.Batches(x, y, batch_size=batch or len(x), shuffle=True, seed=seed)
    losses = []
    for _ in range(epochs):
        for inputs, labels in batches:
            optimizer.zero_grad()
            loss_function(model(inputs), labels).backward()
            optimizer.step()
        with fastbp.no_grad():
            losses.append(loss_function(model(x), y).item())
    return Run(epochs * len(batches), losses, accuracy(model), model)


def accuracy(model: nn.Module) -> float:
    """The share of the 360 test digits that the model gives the right name."""
    x, y = (fastbp.from_numpy(part) for part in data.load_digits("test"))
    with fastbp.no_grad():
        return (model(x).argmax(dim=1) == y).float().mean().item()


def compare(settings: dict[str, tuple[int | None, MakeOptimizer]], epochs: int = 5) -> dict[str, Run]:
    """One run for each line of a table, all from the same start."""
    return {name: train(batch, make_optimizer, epochs) for name, (batch, make_optimizer) in settings.items()}


def best_of_random_starts(starts: int = 5, epochs: int = 3) -> tuple[Run, list[Run]]:
    """The loss has many valleys: train from several random starts and keep the run with the lowest training loss."""
    batch, make_optimizer = OPTIMIZERS["SGD with momentum"]
    runs = [train(batch, make_optimizer, epochs, seed=seed) for seed in range(starts)]
    return min(runs, key=lambda run: run.losses[-1]), runs


def show(title: str, runs: dict[str, Run]) -> None:
    print(title)
    for name, run in runs.items():
        curve = " ".join(f"{loss:.3f}" for loss in run.losses)
        print(f"    {name:20s} {run.steps:5d} steps   loss {curve}   test accuracy {100 * run.accuracy:.1f} %")


def main() -> None:
    show("How many samples a step sees", compare(BATCHES))
    show("Which rule a step follows", compare(OPTIMIZERS))
    best, runs = best_of_random_starts()
    show("Where it starts", {f"start {seed}": run for seed, run in enumerate(runs)})
    print(f"    best: start {runs.index(best)}, loss {best.losses[-1]:.3f}")


if __name__ == "__main__":
    main()
