"""Small problems for fit, evaluate and predict, and what a run of fit leaves."""

from __future__ import annotations

import numpy as np
from compiled_runs import all_state

import fastbp
from fastbp import nn, optim, train
from fastbp.data import Batches
from fastbp.optim import lr_scheduler


def problem(rows: int = 40, seed: int = 0):
    """A linear rule with a little noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]]) + 0.01 * random.normal(size=(rows, 1))).astype(np.float32)
    return x, y


def linear(seed: int = 0):
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 1))


def weights(model) -> list[np.ndarray]:
    return [value.detach().numpy().copy() for value in model.state_dict().values()]


def run(model=None, epochs=3, data=None, lr=0.1, loss=None, **options):
    model = linear() if model is None else model
    optimizer = optim.SGD(model.parameters(), lr=lr)
    data = Batches(*problem(), batch_size=16) if data is None else data
    return train.fit(model, loss or nn.MSELoss(), optimizer, data, epochs, **options)


def dropping(seed: int = 0):
    """Layers with dropout, so that the random numbers of every step matter."""
    fastbp.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 1))


def weighted_loss(prediction, target, sample_weight=None):
    error = (prediction - target).square().sum(dim=1)
    return error.mean() if sample_weight is None else (error * sample_weight).sum() / sample_weight.sum()


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.01),
}
SCHEDULES = {
    None: lambda optimizer: {},
    "epoch": lambda optimizer: {"scheduler": lr_scheduler.StepLR(optimizer, 2, gamma=0.5), "schedule": "epoch"},
    "batch": lambda optimizer: {"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.9), "schedule": "batch"},
    "one cycle": lambda optimizer: {
        "scheduler": lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=40),
        "schedule": "batch",
    },
    "plateau": lambda optimizer: {"scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)},
}


def fitted(compile, make=dropping, optimizer="sgd", data=None, schedule=None, epochs=3, loss=weighted_loss, **options):
    """Curves, weights, state and random numbers after a run."""
    model = make()
    rule = OPTIMIZERS[optimizer](model.parameters())
    batches = (data or (lambda: Batches(*problem(45), batch_size=10, shuffle=True, seed=4)))()
    options |= SCHEDULES[schedule](rule)
    history = train.fit(model, loss, rule, batches, epochs, compile=compile, **options)
    return [
        ("curves", dict(history.curves)),
        ("epoch", getattr(batches, "epoch", None)),
        *all_state((model, rule, options.get("scheduler") if schedule not in (None, "plateau") else None), False),
    ]
