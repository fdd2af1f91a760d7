"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from fastbp.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all its squares so far.

    g ← g + λ p;  s ← s + g², starting from `initial_accumulator_value`;
    p ← p − lr / (1 + (t − 1) · lr_decay) · g / (√s + ε) in a parameter's step t. Source: Duchi et al. 2011.
    """

    _not_negative = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        options = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "initial_accumulator_value": initial_accumulator_value})

    def _live(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"], group["weight_decay"], group["lr_decay"], group["eps"]

    def _slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def _initial(self, group: dict[str, Any], slot: str) -> float:
        return group["initial_accumulator_value"]

    def _update(
        self,
        k: ModuleType,
        group: dict[str, Any],
        hyper: Any,
        grads: list[Any],
        state: dict[str, list[Any]],
        params: list[Any],
    ) -> None:
        k.optimizer_advance(hyper)
        k.adagrad_step(hyper, grads, state["sum"], params)
