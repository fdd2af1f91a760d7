"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from fastbp.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """Divides the gradient by a running root mean square of itself.

    g ← g + λ p;  s ← α s + (1 − α) g²;  d = √s + ε, centered: a ← α a + (1 − α) g and d = √(s − a²) + ε.
    p ← p − lr · g / d;  with momentum μ: v ← μ v + g / d and p ← p − lr · v. Source: Tieleman and Hinton 2012; Graves
    2013 for the centered form.
    """

    _not_negative = ("lr", "alpha", "eps", "weight_decay", "momentum")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered}
        super().__init__(params, {**options, "weight_decay": weight_decay})

    def _live(self, group: dict[str, Any]) -> tuple[float, ...]:
        return (group["lr"], group["weight_decay"], group["alpha"], group["eps"], group["momentum"])

    def _slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        centered = ("grad_avg",) if group["centered"] else ()
        momentum = ("momentum_buffer",) if group["momentum"] != 0 else ()
        return ("square_avg", *centered, *momentum)

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
        velocities = state.get("momentum_buffer", [])
        k.rmsprop_step(hyper, grads, state["square_avg"], state.get("grad_avg", []), velocities, params)
