"""Learning-rate schedules: each call of `step()` writes a new `lr` into every parameter group of an optimizer.

Sequences are PyTorch's. Where a schedule has a recursive form it is used, so that schedules of one optimizer compose
and a learning rate changed by hand stays changed. t counts calls of `step()`; the constructor sets t = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastbp.optim.optimizer import Optimizer


def _check(schedule: object, name: str, value: Any, kind: type | tuple[type, ...], valid: bool, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not valid:
        raise ValueError(f"[{type(schedule).__name__}] expected {name} to be {expected}, got {value!r}")


def _check_count(schedule: object, name: str, value: Any) -> None:
    _check(schedule, name, value, int, isinstance(value, int) and value > 0, "an int above 0")


class LRScheduler:
    """Base class: a subclass defines `get_lr()`, the learning rates of the groups at `last_epoch` (t).

    `last_epoch` other than −1 continues a run from there; the groups must then have their "initial_lr".
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = _checked_optimizer(self, optimizer)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"[{type(self).__name__}] expected 'initial_lr' in parameter group {index} to continue from "
                    f"last_epoch = {last_epoch}"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._starting = True
        self.step()
        self._starting = False

    def get_lr(self) -> list[float]:
        raise NotImplementedError(f"[{type(self).__name__}] expected a get_lr method, got none")

    def step(self) -> None:
        """Moves on by one and sets the learning rates."""
        self._advance()

    def _advance(self) -> None:
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = self._current()

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last `step()` set."""
        return self._last_lr

    def _current(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, as plain values."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        unknown = [name for name in state_dict if name not in self.__dict__]
        missing = [name for name in self.state_dict() if name not in state_dict]
        if unknown or missing:
            raise ValueError(
                f"[{type(self).__name__}] expected the state of the same schedule, "
                f"got unknown {unknown} and missing {missing}"
            )
        self.__dict__.update(state_dict)


def _checked_optimizer(schedule: object, optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"[{type(schedule).__name__}] expected an Optimizer, got {type(optimizer).__name__}")
    return optimizer


class LambdaLR(LRScheduler):
    """lr_t = initial lr · f(t), with one function for all groups or a list of one for each.

    Functions are not in `state_dict`; of objects with `__call__` the attributes are.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(_checked_optimizer(self, optimizer).param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, list) else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"[LambdaLR] expected {groups} functions, one for each group, got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        kept = [None if _is_function(factor) else dict(factor.__dict__) for factor in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        lambdas = self.lr_lambdas
        super().load_state_dict(state_dict)
        self.lr_lambdas = lambdas
        for factor, kept in zip(lambdas, state_dict["lr_lambdas"], strict=True):
            if kept is not None:
                factor.__dict__.update(kept)


def _is_function(value: Any) -> bool:
    return not hasattr(value, "__dict__") or isinstance(value, type(lambda: None))


class StepLR(LRScheduler):
    """lr_t = γ · lr_{t−1} where t is a multiple of step_size, else lr_{t−1}; that is initial lr · γ^⌊t / step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        _check_count(self, "step_size", step_size)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        changes = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [lr * self.gamma if changes else lr for lr in self._current()]


class ExponentialLR(LRScheduler):
    """lr_t = γ · lr_{t−1}; that is initial lr · γ^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [lr if self._starting else lr * self.gamma for lr in self._current()]


class LinearLR(LRScheduler):
    """lr_t = initial lr · (start + (end − start) · min(t, total_iters) / total_iters), start and end being factors."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _check(self, "start_factor", start_factor, (int, float), 0 < start_factor <= 1, "above 0 and at most 1")
        _check(self, "end_factor", end_factor, (int, float), 0 <= end_factor <= 1, "between 0 and 1")
        _check_count(self, "total_iters", total_iters)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in self._current()]
        if self._starting or self.last_epoch > self.total_iters:
            return self._current()
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [lr * (1 + rise / before) for lr in self._current()]


class CosineAnnealingLR(LRScheduler):
    """lr_t = eta_min + (initial lr − eta_min) · (1 + cos(π t / T_max)) / 2, up and down again with period 2 T_max.

    Source: Loshchilov and Hutter 2017, without restarts; by PyTorch's recursion on lr_{t−1}.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        _check_count(self, "T_max", T_max)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, period, low = self.last_epoch, self.T_max, self.eta_min
        if t == 0:
            return self._current()
        if self._starting:
            return [low + (base - low) * (1 + math.cos(t * math.pi / period)) / 2 for base in self.base_lrs]
        if (t - 1 - period) % (2 * period) == 0:  # lr_{t−1} is eta_min: nothing to scale, so climb from it
            climb = (1 - math.cos(math.pi / period)) / 2
            return [lr + (base - low) * climb for base, lr in zip(self.base_lrs, self._current(), strict=True)]
        ratio = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
        return [ratio * (lr - low) + low for lr in self._current()]


def _linear(start: float, end: float, fraction: float) -> float:
    return (end - start) * fraction + start


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) / 2 * (math.cos(math.pi * fraction) + 1)


class OneCycleLR(LRScheduler):
    """One rise from max_lr / div_factor to max_lr and one fall to a far smaller lr; momentum goes the other way.

    The rise takes `pct_start` of `total_steps` (or `epochs · steps_per_epoch`); the fall ends at initial lr /
    final_div_factor, and with `three_phase` it first mirrors the rise. `max_lr`, `base_momentum` and `max_momentum` are
    one number or one for each group; momentum is the group's "momentum", or the first of its "betas". Call `step()`
    after every batch. Source: Smith and Topin 2018, in PyTorch's form.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        groups = _checked_optimizer(self, optimizer).param_groups
        if total_steps is None:
            _check_count(self, "epochs (where total_steps is not given)", epochs)
            _check_count(self, "steps_per_epoch (where total_steps is not given)", steps_per_epoch)
            total_steps = epochs * steps_per_epoch  # type: ignore[operator]
        _check_count(self, "total_steps", total_steps)
        _check(self, "pct_start", pct_start, (int, float), 0 <= pct_start <= 1, "between 0 and 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"[OneCycleLR] expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}")
        if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
            raise ValueError("[OneCycleLR] expected an optimizer with 'momentum' or 'betas' to cycle momentum")
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._phases = _one_cycle_phases(total_steps, pct_start, three_phase)
        if last_epoch == -1:
            limits = zip(
                groups,
                self._per_group("max_lr", max_lr, groups),
                self._per_group("base_momentum", base_momentum, groups),
                self._per_group("max_momentum", max_momentum, groups),
                strict=True,
            )
            for group, top, low_momentum, high_momentum in limits:
                group["initial_lr"] = top / div_factor
                group["max_lr"] = top
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    _set_momentum(group, high_momentum)
                    group["max_momentum"] = high_momentum
                    group["base_momentum"] = low_momentum
        super().__init__(optimizer, last_epoch)

    def _per_group(self, name: str, value: float | Sequence[float], groups: list[dict[str, Any]]) -> Sequence[float]:
        if not isinstance(value, (list, tuple)):
            return [value] * len(groups)  # type: ignore[list-item]
        if len(value) != len(groups):
            raise ValueError(
                f"[OneCycleLR] expected {len(groups)} values of {name}, one for each group, got {len(value)}"
            )
        return value

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"[OneCycleLR] expected at most {self.total_steps} steps, got step {self.last_epoch}")
        anneal = _cosine if self.anneal_strategy == "cos" else _linear
        start = 0.0
        for phase in self._phases:
            if self.last_epoch <= phase[0] or phase is self._phases[-1]:
                break
            start = phase[0]
        end, lr_from, lr_to, momentum_from, momentum_to = phase
        fraction = (self.last_epoch - start) / (end - start) if end != start else 1.0  # a phase of no length is over
        lrs = []
        for group in self.optimizer.param_groups:
            if self.cycle_momentum:
                _set_momentum(group, anneal(group[momentum_from], group[momentum_to], fraction))
            lrs.append(anneal(group[lr_from], group[lr_to], fraction))
        return lrs


_Phase = tuple[float, str, str, str, str]  # last step, then the group's names of lr and momentum at both ends


def _one_cycle_phases(total_steps: int, pct_start: float, three_phase: bool) -> list[_Phase]:
    rise = (pct_start * total_steps - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
    if not three_phase:
        return [rise, (total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
    fall = (2 * pct_start * total_steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum")
    return [rise, fall, (total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")]


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class ReduceLROnPlateau(LRScheduler):
    """lr ← max(factor · lr, min_lr) when the metric has not improved for more than `patience` steps.

    mode "min": better is m < best · (1 − threshold) (threshold_mode "rel") or m < best − threshold ("abs"); mode "max":
    m > best · (1 + threshold) or m > best + threshold. After a reduction `cooldown` steps are not counted; reductions
    of at most `eps` are left out. A metric that is NaN is never better.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        groups = len(_checked_optimizer(self, optimizer).param_groups)
        _check(self, "factor", factor, (int, float), factor < 1, "below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"[ReduceLROnPlateau] expected mode 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"[ReduceLROnPlateau] expected threshold_mode 'rel' or 'abs', got {threshold_mode!r}")
        self.min_lrs = list(min_lr) if isinstance(min_lr, (list, tuple)) else [min_lr] * groups
        if len(self.min_lrs) != groups:
            raise ValueError(f"[ReduceLROnPlateau] expected {groups} values of min_lr, got {len(self.min_lrs)}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = self._current()

    def is_better(self, metric: float, best: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "abs":
            return sign * metric < sign * best - self.threshold
        return sign * metric < sign * best * (1 - sign * self.threshold)

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Takes the metric of the epoch that has just ended (a number or a one-element tensor)."""
        metric = float(metrics)
        self.last_epoch += 1
        if self.is_better(metric, self.best):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._current()

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, least)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
