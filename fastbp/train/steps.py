"""Steps: a function of a batch, run as a program where it can be one, else operation by operation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastbp.autograd import no_grad
from fastbp.data.batches import Batches
from fastbp.dtypes import float32
from fastbp.from_data import SHARED_TYPES
from fastbp.program import CompileError, compile
from fastbp.program.epoch import Epoch
from fastbp.tensor import Tensor, filled

from .callbacks import StepCallback

Metric = Callable[[Tensor, Tensor], Any]
Values = list[float]


class _Recorded:
    """A function and its program, until it turns out to have none."""

    def __init__(self, task: str, program: Callable[..., Any], compiled: bool, require_finite: bool = False) -> None:
        self.task = task
        self.program = compile(program, require_finite=require_finite) if compiled else None

    def go_on_eagerly(self, error: CompileError) -> None:
        """Tells once why there is no program."""
        self.program = None
        warnings.warn(
            f"[{self.task}] the steps run operation by operation, because they cannot be compiled: {error} "
            "(compile=False says so without this warning)",
            stacklevel=2,
        )


class Predicting(_Recorded):
    """A model's outputs for one batch after another, as NumPy arrays."""

    def __init__(self, model: Any, compiled: bool) -> None:
        super().__init__("predict", lambda x: model(x), compiled)
        self.model = model

    def __call__(self, x: Tensor) -> np.ndarray:
        if self.program is not None:
            try:
                return np.array(self.program(x).numpy())
            except CompileError as error:
                self.go_on_eagerly(error)
        return np.array(self.model(x).numpy())


class Steps(_Recorded):
    """What is done with each batch (x, y) or (x, y, sample_weight): the loss and metrics, and in training the step.

    The program returns the values of the batch, then what each of the watchers measured, then the batch's weight; the
    eager function returns the values, and lets the watchers record.
    """

    def __init__(
        self,
        task: str,
        program: Callable[..., Any],
        eager: Callable[..., Values],
        compiled: bool,
        watchers: Sequence[StepCallback] = (),
    ) -> None:
        super().__init__(task, program, compiled, require_finite=task == "fit")
        self.eager = eager
        self.watchers = watchers

    def run(self, data: Iterable[Sequence[Tensor]]) -> Iterator[list[tuple[Values, float]]]:
        """Yields (values, weight) of every batch in groups, one for each return from the program.

        Raises FloatingPointError(value, number of the batch) where the loss in training is not finite.
        """
        if self.program is not None and type(data) is Batches and _is_plain(data):
            yield from self._run_arrays(self.program, data)
        else:
            for number, batch in enumerate(data, 1):
                yield [self._run_batch(_unpack(self.task, batch), number)]

    def _run_arrays(self, program: Any, data: Batches) -> Iterator[list[tuple[Values, float]]]:
        _unpack(self.task, data.arrays)
        epoch = Epoch(program, data.arrays, data.batch_size, data.next_order(), data.drop_last)
        done = 0
        try:
            for taken in epoch:
                yield self._groups(epoch.last, taken)
                done += taken
        except CompileError as error:
            self.go_on_eagerly(error)
            for step in range(done, epoch.steps):
                yield [self._run_batch(epoch.batch(step), step + 1)]
        except FloatingPointError as error:
            if epoch.done > done:  # steps before it, in the same turn
                self._groups(epoch.last, epoch.done - done)
            raise FloatingPointError(_value_in(error), epoch.done + 1) from None

    def _groups(self, columns: Sequence[np.ndarray], count: int) -> list[tuple[Values, float]]:
        """The values and the weight of each of so many steps, after the watchers have recorded theirs."""
        first = len(columns) - 1 - len(self.watchers)
        for watcher, column in zip(self.watchers, columns[first:]):
            watcher.record(column)
        *values, weights = [column.reshape(count).tolist() for column in (*columns[:first], columns[-1])]
        rows = [list(row) for row in zip(*values)] if values else [[] for _ in range(count)]
        return list(zip(rows, weights))

    def _run_batch(self, batch: Sequence[Tensor], number: int) -> tuple[Values, float]:
        if self.program is not None:
            try:
                columns = [np.asarray(t.buffer)[None] for t in self.program(*batch)]
            except CompileError as error:
                self.go_on_eagerly(error)
            except FloatingPointError as error:
                raise FloatingPointError(_value_in(error), number) from None
            else:
                return self._groups(columns, 1)[0]
        values = self.eager(*batch)
        if self.task == "fit" and not math.isfinite(values[0]):
            raise FloatingPointError(values[0], number)
        return values, float(_weight(batch).item())


def training(
    model: Any,
    loss: Callable[..., Tensor],
    optimizer: Any,
    metrics: Sequence[Metric],
    after: Callable[[], Any],
    compiled: bool,
    watchers: Sequence[StepCallback] = (),
) -> Steps:
    """Steps that train on each batch; `after` follows each. A loss that is not finite changes no weight and no
    buffer.

    watchers: measure between backward and the optimizer's step.
    """

    def program(x: Tensor, y: Tensor, *weight: Tensor) -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        prediction = model(x)
        value = _loss_value(loss, prediction, y, *weight)
        value.backward()
        watched = [_watched(watcher) for watcher in watchers]
        optimizer.step()
        with no_grad():
            measured = [_measured(metric, prediction, y) for metric in metrics]
        after()
        return value, *measured, *watched, _weight((x, y, *weight))

    def eager(x: Tensor, y: Tensor, *weight: Tensor) -> Values:
        optimizer.zero_grad()
        before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        prediction = model(x)
        value = _loss_value(loss, prediction, y, *weight)
        number = value.item()
        if not math.isfinite(number):
            for buffer, old in before:
                buffer.copy_(old)
            return [number]
        value.backward()
        watched = [_watched(watcher) for watcher in watchers]
        optimizer.step()
        with no_grad():
            values = [number, *(_number(metric, metric(prediction, y)) for metric in metrics)]
        after()
        for watcher, tensor in zip(watchers, watched):
            watcher.record(tensor.numpy()[None])
        return values

    return Steps("fit", program, eager, compiled, watchers)


def measuring(model: Any, loss: Callable[..., Tensor] | None, metrics: Sequence[Metric], compiled: bool) -> Steps:
    """Steps that measure loss and metrics on each batch, to be run without gradients."""

    def program(x: Tensor, y: Tensor, *weight: Tensor) -> tuple[Tensor, ...]:
        prediction = model(x)
        values = [] if loss is None else [_loss_value(loss, prediction, y, *weight)]
        return *values, *[_measured(metric, prediction, y) for metric in metrics], _weight((x, y, *weight))

    def eager(x: Tensor, y: Tensor, *weight: Tensor) -> Values:
        prediction = model(x)
        values = [] if loss is None else [_loss_value(loss, prediction, y, *weight).item()]
        return [*values, *(_number(metric, metric(prediction, y)) for metric in metrics)]

    return Steps("evaluate", program, eager, compiled)


def _value_in(error: FloatingPointError) -> str:
    """The number that a guard found, as its message ends."""
    return str(error).rpartition(" got ")[2].split(" ")[0]


def _weight(batch: Sequence[Tensor]) -> Tensor:
    """The rows of a batch, or the sum of their weights."""
    return filled((), len(batch[1]), float32) if len(batch) == 2 else batch[2].sum()


def _measured(metric: Metric, prediction: Tensor, y: Tensor) -> Tensor:
    value = metric(prediction, y)
    if not isinstance(value, Tensor):
        _number(metric, value)  # refuses what no step could use
        raise CompileError(f"the metric {_name_of(metric)!r} returns a number, not a tensor")
    if value.numel() != 1:
        raise _not_a_number(metric, value)
    return value


def _watched(watcher: StepCallback) -> Tensor:
    """What it measures, in memory that the step does not change."""
    measured = watcher.measure()
    if not isinstance(measured, Tensor):
        raise TypeError(f"[fit] expected {type(watcher).__name__}.measure to return a tensor, got {measured!r}")
    return measured.detach().clone()


def _loss_value(loss: Callable[..., Tensor], prediction: Tensor, y: Tensor, *weight: Tensor) -> Tensor:
    value = loss(prediction, y, sample_weight=weight[0]) if weight else loss(prediction, y)
    if not isinstance(value, Tensor):
        raise TypeError(f"[fit] expected a loss as a tensor, got {type(value).__name__}")
    if value.numel() != 1:
        raise ValueError(f"[fit] expected a loss of one number, got shape {tuple(value.shape)}")
    return value


def _number(metric: Metric, value: Any) -> float:
    many = isinstance(value, Tensor) and value.numel() != 1
    if many or isinstance(value, str):  # float would take "1"
        raise _not_a_number(metric, value)
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        raise _not_a_number(metric, value) from None


def _not_a_number(metric: Metric, value: Any) -> TypeError:
    got = f"shape {value.shape}" if isinstance(value, Tensor) else repr(value)
    return TypeError(f"[fit] expected the metric {_name_of(metric)!r} to return one number, got {got}")


def _name_of(metric: Metric) -> str:
    return getattr(metric, "__name__", repr(metric))


def _unpack(function: str, batch: Sequence[Any]) -> Sequence[Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        got = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise ValueError(f"[{function}] expected batches (x, y) or (x, y, sample_weight), got {got}")
    return batch


def _is_plain(data: Batches) -> bool:
    """Whether batches are rows of arrays as they stand."""
    return data.transform is None and all(array.dtype.name in SHARED_TYPES for array in data.arrays)
