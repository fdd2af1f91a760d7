"""Training steps of dense networks, the same for every engine: what the benchmarks run side by side.

A workload is widths, activation, loss, optimizer and batch. An engine makes a step from it: a function without
arguments that runs forward, loss, backward and update on fixed data, and returns the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    name: str
    widths: tuple[int, ...]
    activation: str  # "ReLU" or "Tanh"
    loss: str  # "cross_entropy" or "mse_loss"
    optimizer: str  # "SGD" (momentum 0.9), "Adam" or "AdamW"
    batch: int

    @property
    def operations(self) -> int:
        """Of the matrix products of a step: forward, dW, and dX of all layers but the first."""
        pairs = [a * b for a, b in zip(self.widths, self.widths[1:])]
        return 2 * self.batch * (3 * sum(pairs) - pairs[0])

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)
        x = generator.standard_normal((self.batch, self.widths[0])).astype(np.float32)
        if self.loss == "cross_entropy":
            return x, generator.integers(0, self.widths[-1], self.batch)
        return x, generator.standard_normal((self.batch, self.widths[-1])).astype(np.float32)

    def weights(self) -> list[np.ndarray]:
        """Weight and bias of each layer, in turn."""
        generator = np.random.default_rng(1)
        values = []
        for k, n in zip(self.widths, self.widths[1:]):
            bound = k**-0.5
            values += [generator.uniform(-bound, bound, s).astype(np.float32) for s in ((n, k), (n,))]
        return values


WORKLOADS = [
    Workload("rl", (8, 64, 64, 4), "Tanh", "mse_loss", "Adam", 32),
    Workload("mnist_small", (784, 128, 10), "ReLU", "cross_entropy", "SGD", 64),
    Workload("mnist", (784, 512, 512, 10), "ReLU", "cross_entropy", "Adam", 128),
    Workload("deep", (64, *[128] * 12, 10), "ReLU", "cross_entropy", "Adam", 64),
    Workload("tabular", (100, 256, 256, 1), "ReLU", "mse_loss", "AdamW", 4096),
    Workload("wide", (1024, 4096, 4096, 1000), "ReLU", "cross_entropy", "SGD", 512),
]

Step = Callable[[], Any]


def module_step(engine: Any, workload: Workload, to_tensor: Callable[[np.ndarray], Any]) -> Step:
    """A step of fastbp or PyTorch in eager mode, whose names agree. Returns the loss tensor."""
    nn = engine.nn
    layers: list[Any] = []
    for k, n in zip(workload.widths, workload.widths[1:]):
        layers += [nn.Linear(k, n), getattr(nn, workload.activation)()]
    model = nn.Sequential(*layers[:-1])
    with engine.no_grad():
        for parameter, value in zip(model.parameters(), workload.weights()):
            parameter.copy_(to_tensor(value))
    options = {"momentum": 0.9} if workload.optimizer == "SGD" else {}
    optimizer = getattr(engine.optim, workload.optimizer)(model.parameters(), lr=1e-3, **options)
    loss_of = getattr(nn.functional, workload.loss)
    x, y = map(to_tensor, workload.data())

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def fastbp_eager(workload: Workload) -> Step:
    import fastbp

    return module_step(fastbp, workload, fastbp.tensor)


def torch_eager(workload: Workload) -> Step:
    import torch

    torch.set_num_threads(__import__("fastbp").get_num_threads())
    return module_step(torch, workload, torch.tensor)


ENGINES: dict[str, Callable[[Workload], Step]] = {"fastbp": fastbp_eager, "torch": torch_eager}
