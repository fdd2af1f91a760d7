"""Graphs of ten thousand nodes: deep, wide, of many modules."""

from __future__ import annotations

import fastbp
from fastbp import nn
from fastbp.examples import variable
from fastbp.graph import Picture


def deep(length: int = 10_000) -> Picture:
    """A chain of operations, one after the other."""
    x = variable(0.5)
    with fastbp.explain() as picture:
        y = x
        for _ in range(length):
            y = y.tanh()
        y.backward()
    return picture


def wide(leaves: int = 10_000) -> Picture:
    """One sum of many leaves."""
    xs = [variable(float(i)) for i in range(leaves)]
    with fastbp.explain() as picture:
        total = fastbp.stack(xs).sum()
        total.backward()
    return picture


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)

    def forward(self, x: fastbp.Tensor) -> fastbp.Tensor:
        return x + self.down(self.act(self.up(x)))


def blocks(count: int = 200) -> Picture:
    """Residual blocks in a row: 6 operations and 4 parameters each."""
    fastbp.manual_seed(0)
    model = nn.Sequential(*[Block() for _ in range(count)])
    x = fastbp.randn(3, 4)
    with fastbp.explain() as picture:
        loss = (model(x) ** 2).mean()
        loss.backward()
    return picture
