"""An epoch run batch by batch and the same in native calls: what both leave must be equal to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from compiled_runs import all_state, assert_same, training_setup, training_step

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler

ROWS = 45
RULES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
    "adagrad": (optim.Adagrad, {"lr": 0.1}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "adamw amsgrad": (optim.AdamW, {"lr": 0.01, "amsgrad": True}),
}


def arrays(rows: int = ROWS, classes: int = 0, dtype: str = "float32") -> list[np.ndarray]:
    """Inputs and targets: real numbers, or classes."""
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal((rows, 5)).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)
    return [x, rng.integers(0, classes, rows) if classes else y]


def shuffled(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(3).permutation(rows)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def training(rule: str = "nesterov", make: Callable[[], nn.Module] = network, loss: Any = F.mse_loss) -> Any:
    return training_setup(make, RULES[rule], loss)


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "linear": lambda o: lr_scheduler.LinearLR(o, total_iters=7),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=60),
}


def scheduled(make_schedule: Callable[[Any], Any], rule: str = "adam", **changed: Any) -> Callable[[], tuple[Any, ...]]:
    """A setup whose steps end with one of the schedule. changed: options in the place of the rule's."""

    def setup():
        model = network()
        kind, options = RULES[rule]
        optimizer = kind(model.parameters(), **{**options, **changed})
        schedule = make_schedule(optimizer)
        inner = training_step(model, optimizer)

        def step(x, y):
            loss = inner(x, y)
            schedule.step()
            return loss

        return step, model, optimizer, schedule

    return setup


def by_hand(
    step: Callable[..., Any], data: Sequence[Any], batch_size: int, order: Any = None, drop_last: bool = False
) -> list[Any]:
    """What the function returns, called in a loop over the batches."""
    columns = [np.array(a.detach().numpy() if isinstance(a, fastbp.Tensor) else a) for a in data]
    order = np.arange(len(columns[0])) if order is None else np.asarray(order)
    end = len(order) // batch_size * batch_size if drop_last else len(order)
    at = [order[begin : min(begin + batch_size, end)] for begin in range(0, end, batch_size)]
    return [snapshot(step(*(fastbp.tensor(column[rows]) for column in columns))) for rows in at]


def snapshot(value: Any) -> Any:
    """A result as it is now, if it is a parameter."""
    if isinstance(value, fastbp.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: snapshot(entry) for key, entry in value.items()}
    return type(value)(map(snapshot, value)) if isinstance(value, (tuple, list)) else value


def stacked(results: Sequence[Any]) -> Any:
    """Results of many steps with a first dimension for them."""
    first = results[0]
    if isinstance(first, fastbp.Tensor):
        return fastbp.tensor(np.stack([r.detach().numpy() for r in results]))
    if isinstance(first, dict):
        return {key: stacked([r[key] for r in results]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(stacked(column) for column in zip(*results))
    return first


def assert_equal_epochs(
    setup: Callable[[], tuple[Any, ...]],
    data: Sequence[Any],
    batch_size: int,
    count: int = 2,
    grads: bool = False,
    require_finite: bool = False,
    **options: Any,
) -> Any:
    """Runs epochs by hand and natively, and compares results and state after each; returns the compiled function."""
    order = options.get("permutation")
    drop_last = options.get("drop_last", False)
    fastbp.manual_seed(5)
    step, *state = setup()
    expected = [
        all_state((stacked(by_hand(step, data, batch_size, order, drop_last)), state), grads) for _ in range(count)
    ]
    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step, keep_grads=grads, require_finite=require_finite)
    for number in range(count):
        results = compiled.run_epoch(data, batch_size, **options)
        assert_same(expected[number], all_state((results, state), grads), f"epoch {number}: ")
    return compiled
