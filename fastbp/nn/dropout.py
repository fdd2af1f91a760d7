"""Dropout."""

from __future__ import annotations

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.ops.common import number_of
from fastbp.tensor import Tensor


class Dropout(Module):
    """Zeroes each element with probability p and scales the others by 1/(1 − p) in training; does nothing in eval mode.

    y = x · m, with m = 0 or 1/(1 − p), drawn anew in each call from the generator that `manual_seed` sets.
    Source: Srivastava et al. 2014, in the inverted form.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = number_of(p, "Dropout", "p", least=0, most=1)

    def forward(self, input: Tensor) -> Tensor:
        return ops.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
