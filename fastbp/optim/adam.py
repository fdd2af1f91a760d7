"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from fastbp.optim.optimizer import Optimizer

_BETA1, _BETA2, _POWER1, _POWER2 = 3, 4, 6, 7  # cells of `hyper`


class Adam(Optimizer):
    """Running means of the gradient and of its square, both freed of their bias towards the start.

    g ← g + λ p;  m ← β1 m + (1 − β1) g;  s ← β2 s + (1 − β2) g²;
    p ← p − lr · (m / (1 − β1^t)) / (√(s / (1 − β2^t)) + ε) in a parameter's step t. With `amsgrad` the largest s so far
    stands for s. Source: Kingma and Ba 2015; Reddi et al. 2018 for amsgrad.
    """

    _not_negative = ("lr", "eps", "weight_decay")
    _progress: ClassVar[dict[str, int]] = {"step": 0, "beta1_power": _POWER1, "beta2_power": _POWER2}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, options)

    def _check_options(self, group: dict[str, Any]) -> None:
        betas = group["betas"]
        pair = isinstance(betas, (tuple, list)) and len(betas) == 2
        if not pair or not all(isinstance(beta, Real) and 0 <= float(beta) < 1 for beta in betas):
            raise ValueError(f"{self._tag} expected betas to be two numbers in [0, 1), got {betas!r}")

    def _live(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"], group["weight_decay"], *group["betas"], group["eps"]

    def _write(self, cells: np.ndarray, group: dict[str, Any]) -> None:
        for beta, cell, power in zip(group["betas"], (_BETA1, _BETA2), (_POWER1, _POWER2), strict=True):
            if cells[cell] != beta:  # the kernel multiplies its power by one beta: start again from the new one's
                cells[power] = beta ** cells[0]
        super()._write(cells, group)

    def _progress_at(self, group: dict[str, Any], step: float, saved: Mapping[str, Any]) -> dict[str, float]:
        power1, power2 = (beta**step for beta in group["betas"])
        powers = {
            "beta1_power": float(saved.get("beta1_power", power1)),
            "beta2_power": float(saved.get("beta2_power", power2)),
        }
        return {"step": step, **powers}

    def _slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def _update(
        self,
        k: ModuleType,
        group: dict[str, Any],
        hyper: Any,
        grads: list[Any],
        state: dict[str, list[Any]],
        params: list[Any],
    ) -> None:
        k.adam_advance(hyper)
        self._step_kernel(k)(
            hyper, grads, state["exp_avg"], state["exp_avg_sq"], state.get("max_exp_avg_sq", []), params
        )

    def _step_kernel(self, k: ModuleType) -> Any:
        return k.adam_step


class AdamW(Adam):
    """Adam with the weight decay taken out of the gradient: p ← p − lr · λ · p, then Adam's step with λ = 0.

    Source: Loshchilov and Hutter 2019.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def _step_kernel(self, k: ModuleType) -> Any:
        return k.adamw_step
