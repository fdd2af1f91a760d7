"""What all losses are."""

from __future__ import annotations

import inspect

from fastbp.nn.module import Module
from fastbp.ops.loss.fused import REDUCTIONS


class Loss(Module):
    """A loss with its reduction and options."""

    def __init__(self, reduction: str = "mean", reductions: tuple[str, ...] = REDUCTIONS) -> None:
        super().__init__()
        if reduction not in reductions:
            *others, last = map(repr, reductions)
            raise ValueError(
                f"[{type(self).__name__}] expected reduction to be {', '.join(others)} or {last}, got {reduction!r}"
            )
        self.reduction = reduction

    def extra_repr(self) -> str:
        options = {"reduction": self.reduction}
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name, parameter.default)
            if name not in self._buffers and value != parameter.default:
                options[name] = value
        return ", ".join(f"{name}={value!r}" for name, value in options.items())
