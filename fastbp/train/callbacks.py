"""Callbacks: what happens around a run and after each of its epochs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.tensor import Tensor

from .history import History, Run


class Callback:
    """Base class; every method may be left out. `fit` also takes a plain function, called as `epoch_end`."""

    def start(self, run: Run) -> None:
        """Called before the first epoch."""

    def epoch_end(self, run: Run) -> None:
        """Called after each epoch and its validation, when `run.history` has its values."""

    def end(self, run: Run) -> None:
        """Called after the last epoch, also when the run was stopped or interrupted, not when it failed."""


class StepCallback(Callback, ABC):
    """Base class of callbacks that measure something in every training step, such as the gradients."""

    @abstractmethod
    def measure(self) -> Tensor:
        """Called in every step between backward and the optimizer's step; returns a tensor, of one shape in all steps.

        It becomes part of the step's program, so it keeps to what `fastbp.compile` allows.
        """

    @abstractmethod
    def record(self, values: np.ndarray) -> None:
        """Takes what `measure` returned in the steps since the last call: (steps, ...), each step once, in order."""


class FunctionCallback(Callback):
    """A function of the run, called after each epoch."""

    def __init__(self, function: Callable[[Run], Any]) -> None:
        self.function = function

    def epoch_end(self, run: Run) -> None:
        self.function(run)


class _Best:
    """Follows one curve and tells whether its last value is the best so far, by more than min_delta."""

    def __init__(self, monitor: str | None, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"[callback] expected mode 'min' or 'max', got {mode!r}")
        self.monitor, self.sign, self.min_delta = monitor, 1.0 if mode == "min" else -1.0, min_delta
        self.reset()

    def reset(self) -> None:
        self.value = math.inf

    def curve(self, history: History) -> str:
        return self.monitor or ("validation_loss" if "validation_loss" in history.curves else "loss")

    def improved(self, history: History) -> bool:
        value = self.sign * history[self.curve(history)][-1]
        if not value < self.value - self.min_delta:  # NaN is no improvement
            return False
        self.value = value
        return True


class EarlyStopping(Callback):
    """Stops a run when a curve has not improved for `patience` epochs.

    monitor: a curve of the history; by default validation_loss, or loss where there is no validation. mode: 'min', or
    'max' for metrics that should grow. An improvement is a change of more than min_delta.
    """

    def __init__(
        self, monitor: str | None = None, patience: int = 5, mode: str = "min", min_delta: float = 0.0
    ) -> None:
        if patience < 1:
            raise ValueError(f"[EarlyStopping] expected patience >= 1, got {patience}")
        self.patience = patience
        self.best = _Best(monitor, mode, min_delta)

    def start(self, run: Run) -> None:
        self.best.reset()
        self.waited = 0

    def epoch_end(self, run: Run) -> None:
        self.waited = 0 if self.best.improved(run.history) else self.waited + 1
        if self.waited >= self.patience:
            run.stop(f"{self.best.curve(run.history)} has not improved for {self.patience} epochs")


class BestWeights(Callback):
    """Keeps the weights of the best epoch and puts them back at the end of the run.

    monitor and mode: as in `EarlyStopping`. `epoch` is the best one, counted from 1; 0 if no epoch had a finite value.
    """

    def __init__(self, monitor: str | None = None, mode: str = "min") -> None:
        self.best = _Best(monitor, mode)
        self.epoch = 0

    def start(self, run: Run) -> None:
        self.best.reset()
        self.epoch = 0

    def epoch_end(self, run: Run) -> None:
        if self.best.improved(run.history):
            self.epoch = run.history.epochs
            self.state = {name: value.detach().clone() for name, value in run.model.state_dict().items()}

    def end(self, run: Run) -> None:
        if self.epoch:
            run.model.load_state_dict(self.state)
            del self.state
