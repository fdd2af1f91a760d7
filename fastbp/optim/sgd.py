"""SGD."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from fastbp.optim.optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent, with momentum μ, dampening τ, weight decay λ and Nesterov's variant.

    g ← g + λ p;  v ← μ v + (1 − τ) g, in a parameter's first step v ← g;
    p ← p − lr · v, with Nesterov p ← p − lr · (g + μ v), without momentum p ← p − lr · g.
    Source: Sutskever et al. 2013, in PyTorch's form (lr outside v).
    """

    _not_negative = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, options)

    def _check_options(self, group: dict[str, Any]) -> None:
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "[SGD] expected momentum > 0 and dampening = 0 for nesterov, "
                f"got momentum = {group['momentum']} and dampening = {group['dampening']}"
            )

    def _live(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"], group["weight_decay"], group["momentum"], group["dampening"]

    def _slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def _choices(self, group: dict[str, Any]) -> tuple[Any, ...]:
        return *self._slots(group), bool(group["nesterov"])

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
        k.sgd_step(hyper, grads, state.get("momentum_buffer", []), group["nesterov"], params)
