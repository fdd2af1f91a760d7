"""Training steps of dense networks, the same for every engine: what the benchmarks run side by side.

A workload is widths, activation, loss, optimizer and batch. An engine makes a step of it: a function without arguments
that runs forward, loss, backward and update on fixed data, and returns the loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import fastbp

LR = 1e-3
MOMENTUM = 0.9


class Workload(NamedTuple):
    name: str
    widths: tuple[int, ...]
    activation: str  # "ReLU" or "Tanh"
    loss: str  # "cross_entropy" or "mse_loss"
    optimizer: str  # "SGD" (with momentum), "Adam" or "AdamW"
    batch: int

    @property
    def operations(self) -> int:
        """Of the matrix products of a step: forward, dW, and dX of all layers but the first."""
        pairs = [k * n for k, n in pairwise(self.widths)]
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
        for k, n in pairwise(self.widths):
            bound = k**-0.5
            values += [generator.uniform(-bound, bound, s).astype(np.float32) for s in ((n, k), (n,))]
        return values


Step = Callable[[], Any]
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("rl", (8, 64, 64, 4), "Tanh", "mse_loss", "Adam", 32),
        Workload("mnist_small", (784, 128, 10), "ReLU", "cross_entropy", "SGD", 64),
        Workload("mnist", (784, 512, 512, 10), "ReLU", "cross_entropy", "Adam", 128),
        Workload("deep", (64, *[128] * 12, 10), "ReLU", "cross_entropy", "Adam", 64),
        Workload("tabular", (100, 256, 256, 1), "ReLU", "mse_loss", "AdamW", 4096),
        Workload("wide", (1024, 4096, 4096, 1000), "ReLU", "cross_entropy", "SGD", 512),
    )
}


def module_step(engine: Any, workload: Workload, to_tensor: Callable[[np.ndarray], Any], **options: Any) -> Step:
    """A step of fastbp or of PyTorch in eager mode, whose names agree; options go to the optimizer."""
    model, optimizer, loss_of = parts(engine, workload, to_tensor, **options)
    x, y = map(to_tensor, workload.data())

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def parts(engine: Any, workload: Workload, to_tensor: Callable[[np.ndarray], Any], **options: Any) -> tuple[Any, ...]:
    """Model with the workload's weights, optimizer and loss function."""
    nn = engine.nn
    layers: list[Any] = []
    for k, n in pairwise(workload.widths):
        layers += [nn.Linear(k, n), getattr(nn, workload.activation)()]
    model = nn.Sequential(*layers[:-1])
    with engine.no_grad():
        for parameter, value in zip(model.parameters(), workload.weights()):
            parameter.copy_(to_tensor(value))
    if workload.optimizer == "SGD":
        options["momentum"] = MOMENTUM
    optimizer = getattr(engine.optim, workload.optimizer)(model.parameters(), lr=LR, **options)
    return model, optimizer, getattr(nn.functional, workload.loss)


def eager_step(workload: Workload) -> Step:
    """A step of fastbp, operation by operation."""
    return module_step(fastbp, workload, fastbp.tensor)


def compiled_step(workload: Workload) -> Step:
    """A step of fastbp as one program, which gets the batch as its arguments."""
    model, optimizer, loss_of = parts(fastbp, workload, fastbp.tensor)
    batch = tuple(map(fastbp.tensor, workload.data()))

    @fastbp.compile
    def train(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return functools.partial(train, *batch)


def losses(step: Step, count: int = 3) -> list[float]:
    """The losses of the next steps."""
    return [float(step()) for _ in range(count)]


@functools.cache
def expected_losses(workload: Workload) -> list[float]:
    """The first losses on the reference backend."""
    with fastbp.backend("reference"):
        return losses(eager_step(workload))


def verify(step: Step, workload: Workload) -> None:
    """Check a new step's first losses against those of the reference backend; ArithmeticError if they differ."""
    expected, got = expected_losses(workload), losses(step)
    if not np.allclose(got, expected, rtol=1e-4, atol=0):
        raise ArithmeticError(f"[{workload.name}] expected losses {expected}, got {got}")
