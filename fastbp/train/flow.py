"""How large the gradients of each parameter are, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp import ops
from fastbp.dtypes import float32, float64
from fastbp.nn.module import Module
from fastbp.nn.utils import get_total_norm
from fastbp.plots import plot_gradient_flow
from fastbp.tensor import Tensor, filled

from .callbacks import StepCallback

_ABSENT = -1.0  # what `measure` has for a parameter without a gradient: no norm is negative


class GradientFlow(StepCallback):
    """Records ‖∂loss/∂p‖₂ of every parameter p of a model, in every step.

    norms: by the parameter's name, one number for each recorded step, None where it had no gradient. steps: their
    numbers, from 1. The parameters are those that the model has when this is made.

    With fit: `train.fit(..., callbacks=[flow])`; the norms are then part of the compiled step. In a loop of one's own:

        loss.backward()
        flow.record()
        optimizer.step()

    In a function that is compiled return `flow.measure()`, called at that place, and give the result to `record`: that
    of one step, or that of all steps of `run_epoch`. Raises ValueError for a model without parameters.
    """

    def __init__(self, model: Module) -> None:
        self._parameters = dict(model.named_parameters())
        if not self._parameters:
            raise ValueError(f"[GradientFlow] expected a model with parameters, got {type(model).__name__} with none")
        self.norms: dict[str, list[float | None]] = {name: [] for name in self._parameters}
        self.steps: list[int] = []

    def measure(self) -> Tensor:
        """Return the norm of the gradient of each parameter, −1 where there is none.

        (parameters,), float64 where a parameter is, else float32. Runs no code on the host: it may be compiled.
        """
        parameters = self._parameters.values()
        dtype = float64 if any(p.dtype is float64 for p in parameters) else float32
        absent = filled((), _ABSENT, dtype)
        return ops.stack([absent if p.grad is None else get_total_norm(p.grad).to(dtype) for p in parameters])

    def record(self, values: Any = None) -> None:
        """Append the norms of one step or more: those that the gradients have now, or what `measure` returned.

        values: (parameters,) of one step, or (steps, parameters); a tensor or an array. Raises RuntimeError, and
        appends nothing, where no parameter has a gradient; ValueError for another shape.
        """
        if values is None:
            values = self.measure()
        array = np.asarray(values.detach() if isinstance(values, Tensor) else values)
        if array.shape[-1:] != (len(self.norms),) or array.ndim > 2:
            raise ValueError(
                f"[GradientFlow] expected norms of {len(self.norms)} parameters, one step or (steps, "
                f"{len(self.norms)}), got shape {array.shape}"
            )
        rows = array.reshape(-1, len(self.norms))
        if (rows == _ABSENT).all(axis=1).any():
            raise RuntimeError(
                "[GradientFlow] expected gradients, got none: record between backward() and zero_grad(). After a "
                "compiled optimizer step grad is None: return measure() from the compiled function and record that, "
                "or compile it with keep_grads=True"
            )
        for norms, column in zip(self.norms.values(), rows.T.tolist()):
            norms.extend(None if norm == _ABSENT else norm for norm in column)
        first = self.steps[-1] + 1 if self.steps else 1
        self.steps.extend(range(first, first + len(rows)))

    def plot(self, **options: Any) -> Any:
        """Draw the norms; `fastbp.plots.plot_gradient_flow` says which options there are, and what is returned."""
        return plot_gradient_flow(self, **options)
