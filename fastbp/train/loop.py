"""The fit loop: epochs of steps, validation, schedule, callbacks. One step is one function, built by `eager_step`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastbp.autograd import no_grad
from fastbp.optim.lr_scheduler import ReduceLROnPlateau
from fastbp.tensor import Tensor

from .callbacks import Callback, FunctionCallback
from .history import History, Run
from .progress import progress_bar

Metric = Callable[[Tensor, Tensor], Any]
Step = Callable[[Tensor, Tensor, "Tensor | None"], list[float]]


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
    callbacks: `Callback` objects, or functions of the `Run` called after each epoch.
    progress: True shows a bar on standard error, False none, None a bar on a terminal only.

    Ctrl-C ends the run: the curves of the finished epochs are returned with `interrupted` set. The model is left in the
    mode, train or eval, in which it came. Raises ValueError if an epoch has no batch, FloatingPointError if the loss
    becomes NaN or infinite (that step is not taken), TypeError for data that can be iterated only once.
    """
    epochs = operator.index(epochs)
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
    measures = _named(metrics)
    hooks = [entry if isinstance(entry, Callback) else FunctionCallback(entry) for entry in callbacks]

    run = Run(model, optimizer, epochs)
    step = eager_step(model, loss, optimizer, list(measures.values()))
    after_batch = scheduler.step if scheduler is not None and schedule == "batch" else _nothing
    bar = progress_bar(progress, epochs * len(data) if isinstance(data, Sized) else None)
    was_training = model.training
    try:
        for hook in hooks:
            hook.start(run)
        for epoch in range(1, epochs + 1):
            bar.set_description_str(f"epoch {epoch}/{epochs}")
            model.train()
            values = _train_epoch(step, data, epoch, ["loss", *measures], after_batch, bar.update)
            if validation is not None:
                measured = evaluate(model, validation, loss, measures)
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
) -> dict[str, float]:
    """Return the mean loss and metrics of a model over batches, in eval mode and without gradients.

    data, loss, metrics and their means as in `fit`. Returns {"loss": ..., metric: ...}. Raises ValueError for no batch.
    """
    measures = _named(metrics)
    means = _Means([*(["loss"] if loss is not None else []), *measures])
    with _evaluating(model):
        for batch in data:
            x, y, sample_weight = _unpack("evaluate", batch)
            prediction = model(x)
            values = [] if loss is None else [_loss_value(loss, prediction, y, sample_weight).item()]
            values += [_number(metric(prediction, y)) for metric in measures.values()]
            means.add(values, y, sample_weight)
    return means.result("evaluate")


def predict(model: Any, data: Iterable[Sequence[Tensor]]) -> np.ndarray:
    """Return the model's outputs for the first tensor of every batch, joined along the rows, as a NumPy array."""
    with _evaluating(model):
        outputs = [np.array(model(batch[0]).numpy()) for batch in data]
    if not outputs:
        raise ValueError("[predict] expected at least one batch, got none")
    return np.concatenate(outputs)


def eager_step(model: Any, loss: Callable[..., Tensor], optimizer: Any, metrics: Sequence[Metric]) -> Step:
    """Return the function of one batch that trains on it and returns its loss and metrics.

    A loss that is not finite is returned without changing a weight.
    """

    def step(x: Tensor, y: Tensor, sample_weight: Tensor | None) -> list[float]:
        optimizer.zero_grad()
        prediction = model(x)
        value = _loss_value(loss, prediction, y, sample_weight)
        number = value.item()
        if math.isfinite(number):
            value.backward()
            optimizer.step()
        with no_grad():
            return [number, *(_number(metric(prediction, y)) for metric in metrics)]

    return step


def _train_epoch(
    step: Step,
    data: Iterable[Sequence[Tensor]],
    epoch: int,
    names: list[str],
    after_batch: Callable[[], Any],
    update: Callable[[], Any],
) -> dict[str, float]:
    means = _Means(names)
    for number, batch in enumerate(data, 1):
        x, y, sample_weight = _unpack("fit", batch)
        values = step(x, y, sample_weight)
        if not math.isfinite(values[0]):
            raise FloatingPointError(
                f"[fit] expected a finite loss, got {values[0]} in epoch {epoch}, batch {number}: "
                "lower the learning rate, or look for NaN or very large values in the data"
            )
        means.add(values, y, sample_weight)
        after_batch()
        update()
    return means.result("fit")


class _Means:
    """Means over batches, weighted by their rows or by the sum of their sample weights."""

    def __init__(self, names: Sequence[str]) -> None:
        self.totals = dict.fromkeys(names, 0.0)
        self.weight = 0.0
        self.batches = 0

    def add(self, values: Sequence[float], y: Tensor, sample_weight: Tensor | None) -> None:
        weight = len(y) if sample_weight is None else sample_weight.sum().item()
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


def _loss_value(loss: Callable[..., Tensor], prediction: Tensor, y: Tensor, sample_weight: Tensor | None) -> Tensor:
    value = loss(prediction, y) if sample_weight is None else loss(prediction, y, sample_weight=sample_weight)
    if value.numel() != 1:
        raise ValueError(f"[fit] expected a loss of one number, got shape {tuple(value.shape)}")
    return value


def _unpack(function: str, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        got = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise ValueError(f"[{function}] expected batches (x, y) or (x, y, sample_weight), got {got}")
    return batch[0], batch[1], batch[2] if len(batch) == 3 else None


def _named(metrics: Mapping[str, Metric] | Sequence[Metric]) -> dict[str, Metric]:
    named = dict(metrics) if isinstance(metrics, Mapping) else {metric.__name__: metric for metric in metrics}
    if "loss" in named or len(named) != len(metrics):
        raise ValueError("[fit] expected metrics with names of their own, other than 'loss'")
    return named


def _number(value: Any) -> float:
    return float(value.item() if hasattr(value, "item") else value)


def _nothing() -> None: ...
