"""Models whose summaries are known by hand."""

from __future__ import annotations

from fastbp import nn


class Block(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.spare = nn.Linear(width, 2)

    def forward(self, x, scale=None):
        y = x + self.inner(x)
        return y if scale is None else y * scale


class Shared(nn.Module):
    """Calls its first block twice; head and copy have one weight; the blocks are in a list that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head, self.copy = nn.Linear(4, 3), nn.Linear(4, 3)
        self.copy.weight = self.head.weight

    def forward(self, x):
        first, second = self.blocks
        x = first(second(first(x)))
        return self.head(x), {"copy": self.copy(x)}
