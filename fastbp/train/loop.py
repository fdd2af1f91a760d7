"""The fit loop: epochs of steps, validation, schedule, callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastbp.autograd import no_grad
from fastbp.optim.lr_scheduler import ReduceLROnPlateau
from fastbp.tensor import Tensor

from .callbacks import Callback, FunctionCallback, StepCallback
from .history import History, Run
from .progress import progress_bar
from .steps import Metric, Predicting, Steps, measuring, training


def fit(
    model: Any,
    loss: Callable[..., Tensor],
    optimizer: Any,
    data: Iterable[Sequence[Tensor]],
    epochs: int,
    validation: Iterable[Sequence[Tensor]] | None = None,
    metrics: Mapping[str, Metric] | Sequence[Metric] = (),
    scheduler: Any = None,
    schedule: str = "epoch",
    callbacks: Sequence[Callback | Callable[[Run], Any]] = (),
    progress: bool | None = None,
    compile: bool = True,
) -> History:
    """Train a model and return the curves of loss and metrics.

    Each step: zero_grad, prediction = model(x), loss(prediction, y), backward, optimizer.step.

    data: batches (x, y) or (x, y, sample_weight), iterated once per epoch, such as `data.Batches`.
    loss: returns one number, the mean over the batch; called with sample_weight= where the batch has weights.
    validation: batches evaluated after each epoch, in eval mode and without gradients.
    metrics: functions of (prediction, y), by name or named after themselves. An epoch's value is the mean over its
    batches, weighted by their rows, or by their weights' sum; training batches are measured with the weights before
    their step.
    scheduler: stepped after each epoch, or with schedule="batch" after each batch; ReduceLROnPlateau gets the
    validation loss, or the loss where there is no validation.
    callbacks: `Callback` objects, or functions of the `Run` called after each epoch. What a `StepCallback` measures is
    part of every step.
    progress: True shows a bar on standard error, False none, None a bar on a terminal only.
    compile: run the steps as programs (see `fastbp.compile`): model, loss and metrics are then recorded, and their
    Python code runs once for each shape and mode. Where they need a tensor's value on the host, a warning is given and
    they run operation by operation, as they do with compile=False.

    Ctrl-C ends the run: the curves of the finished epochs are returned with `interrupted` set. The model is left in the
    mode, train or eval, in which it came. Raises ValueError if an epoch has no batch, FloatingPointError if the loss
    becomes NaN or infinite (that step is not taken), TypeError for data that can be iterated only once and for metrics
    and callbacks that are none.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)):
        raise TypeError(f"[fit] expected epochs as an integer, got {epochs!r}")
    epochs = int(epochs)
    if epochs < 1:
        raise ValueError(f"[fit] expected epochs >= 1, got {epochs}")
    if schedule not in ("epoch", "batch"):
        raise ValueError(f"[fit] expected schedule 'epoch' or 'batch', got {schedule!r}")
    plateau = isinstance(scheduler, ReduceLROnPlateau)
    if plateau and schedule == "batch":
        raise ValueError("[fit] expected schedule 'epoch' with ReduceLROnPlateau, got 'batch'")
    for name, batches in (("data", data), ("validation", validation)):
        if isinstance(batches, Iterator):
            raise TypeError(f"[fit] expected {name} that can be iterated in every epoch, got {type(batches).__name__}")
    measures = _named("fit", metrics)
    hooks = [_hook(entry) for entry in _entries("fit", "callbacks", callbacks)]

    run = Run(model, optimizer, epochs)
    after_batch = scheduler.step if scheduler is not None and schedule == "batch" else _nothing
    watchers = [hook for hook in hooks if isinstance(hook, StepCallback)]
    steps = training(model, loss, optimizer, list(measures.values()), after_batch, compile, watchers)
    checks = measuring(model, loss, list(measures.values()), compile)
    bar = progress_bar(progress, epochs * len(data) if isinstance(data, Sized) else None)
    was_training = model.training
    try:
        for hook in hooks:
            hook.start(run)
        for epoch in range(1, epochs + 1):
            bar.set_description_str(f"epoch {epoch}/{epochs}")
            model.train()
            values = _train_epoch(steps, data, epoch, ["loss", *measures], bar.update)
            if validation is not None:
                measured = _measure(model, checks, validation, ["loss", *measures])
                values |= {f"validation_{name}": value for name, value in measured.items()}
            if scheduler is not None and schedule == "epoch":
                scheduler.step(*[values.get("validation_loss", values["loss"])] if plateau else ())
            run.history.append(values)
            bar.set_postfix_str(run.history.summary())
            for hook in hooks:
                hook.epoch_end(run)
            if run.history.stop_reason:
                break
    except KeyboardInterrupt:
        run.history.interrupted = True
    finally:
        bar.close()
        model.train(was_training)
    for hook in hooks:
        hook.end(run)
    return run.history


def evaluate(
    model: Any,
    data: Iterable[Sequence[Tensor]],
    loss: Callable[..., Tensor] | None = None,
    metrics: Mapping[str, Metric] | Sequence[Metric] = (),
    compile: bool = True,
) -> dict[str, float]:
    """Return the mean loss and metrics of a model over batches, in eval mode and without gradients.

    data, loss, metrics, compile and the means as in `fit`. Returns {"loss": ..., metric: ...}. Raises ValueError for no
    batch.
    """
    measures = _named("evaluate", metrics)
    names = [*(["loss"] if loss is not None else []), *measures]
    return _measure(model, measuring(model, loss, list(measures.values()), compile), data, names)


def _measure(model: Any, steps: Steps, data: Iterable[Sequence[Tensor]], names: list[str]) -> dict[str, float]:
    means = _Means(names)
    with _evaluating(model):
        for group in steps.run(data):
            means.add(group)
    return means.result("evaluate")


def predict(model: Any, data: Iterable[Sequence[Tensor]], compile: bool = True) -> np.ndarray:
    """Return the model's outputs for the first tensor of every batch, joined along the rows, as a NumPy array.

    compile: as in `fit`.
    """
    steps = Predicting(model, compile)
    with _evaluating(model):
        outputs = [steps(batch[0]) for batch in data]
    if not outputs:
        raise ValueError("[predict] expected at least one batch, got none")
    return np.concatenate(outputs)


def _train_epoch(
    steps: Steps,
    data: Iterable[Sequence[Tensor]],
    epoch: int,
    names: list[str],
    update: Callable[[int], Any],
) -> dict[str, float]:
    means = _Means(names)
    try:
        for group in steps.run(data):
            means.add(group)
            update(len(group))
    except FloatingPointError as error:
        value, number = error.args
        raise FloatingPointError(
            f"[fit] expected a finite loss, got {value} in epoch {epoch}, batch {number}: "
            "lower the learning rate, or look for NaN or very large values in the data"
        ) from None
    return means.result("fit")


class _Means:
    """Means over batches, weighted by their rows or by the sum of their sample weights."""

    def __init__(self, names: Sequence[str]) -> None:
        self.totals = dict.fromkeys(names, 0.0)
        self.weight = 0.0
        self.batches = 0

    def add(self, group: Sequence[tuple[Sequence[float], float]]) -> None:
        """Adds batches: values and weight of each."""
        for values, weight in group:
            for name, value in zip(self.totals, values, strict=True):
                self.totals[name] += weight * value
            self.weight += weight
            self.batches += 1

    def result(self, function: str) -> dict[str, float]:
        if self.batches == 0:
            raise ValueError(f"[{function}] expected data with at least one batch, got none")
        return {name: total / self.weight if self.weight else math.nan for name, total in self.totals.items()}


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """A model in eval mode without gradients for a while; then in the mode it had."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(was_training)


def _named(function: str, metrics: Mapping[str, Metric] | Sequence[Metric]) -> dict[str, Metric]:
    named: dict[Any, Metric]
    if isinstance(metrics, Mapping):
        named = dict(metrics)
    else:
        metrics = _entries(function, "metrics", metrics)
        named = {getattr(metric, "__name__", None): metric for metric in metrics}
    for name, metric in named.items():
        if not callable(metric):
            raise TypeError(f"[{function}] expected metrics as functions of (prediction, y), got {metric!r}")
        if not isinstance(name, str):
            raise TypeError(f"[{function}] expected metrics by name, {{'name': function}}, as {metric!r} has none")
    if "loss" in named or len(named) != len(metrics):
        raise ValueError(f"[{function}] expected metrics with names of their own, other than 'loss'")
    return named


def _entries(function: str, name: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"[{function}] expected {name} as a sequence, got {values!r}")
    return list(values)


def _hook(entry: Any) -> Callback:
    if isinstance(entry, Callback):
        return entry
    if not callable(entry):
        raise TypeError(f"[fit] expected callbacks as Callback objects or functions of the run, got {entry!r}")
    return FunctionCallback(entry)


def _nothing() -> None: ...
