"""Recorded calls, and the programs built of them, for tests of the passes and of what follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import fastbp
from fastbp import _native, nn, optim
from fastbp.nn import functional as F
from fastbp.program import record
from fastbp.program.build import Built, build
from fastbp.program.calls import Call
from fastbp.program.variant import run_calls
from fastbp.tensor import Tensor


class Recorded:
    """A function's calls, with the placeholders of what it takes and gives, and memory that it changes."""

    def __init__(self, function: Callable[..., Any], *given: Any, changes: Sequence[Tensor] = ()) -> None:
        self.given = [fastbp.tensor(g) for g in given]
        self.changes = changes
        with record.recording() as recorder:
            inputs = [recorder.stand_in(t) for t in self.given]
            results = function(*inputs)
            self.outputs = [t.buffer for t in (results if isinstance(results, tuple) else (results,))]
        self.calls = recorder.calls
        self.inputs = [t.buffer for t in inputs]
        ranges = [(begin, begin + size) for begin, size in (b.storage for b in (*self.inputs, *self.outputs))]
        self.live = [(0, _native.PLACEHOLDERS), *ranges]

    def kernels(self, calls: Sequence[Call] | None = None) -> list[str]:
        return [call.kernel for call in (self.calls if calls is None else calls)]

    def results(self, calls: Sequence[Call]) -> list[bytes]:
        """What the calls leave on the reference backend: outputs, inputs and changed memory, which is put back."""
        before = [t.detach().numpy().copy() for t in self.changes]
        inputs = [t.clone().buffer for t in self.given]
        with fastbp.backend("reference"):
            outputs = run_calls(calls, self.inputs, inputs, self.outputs)
        left = [np.asarray(b).tobytes() for b in (*outputs, *inputs, *[t.buffer for t in self.changes])]
        for t, values in zip(self.changes, before):
            t.detach().numpy()[...] = values
        return left

    def assert_same_bits(self, calls: Sequence[Call]) -> None:
        assert self.results(calls) == self.results(self.calls)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def parameter(*shape: int, seed: int = 7) -> nn.Parameter:
    return nn.Parameter(fastbp.tensor(normal(*shape, seed=seed)))


def labels(rows: int, classes: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, classes, rows)


def step_of(net: Any, kind: Any, loss: Callable[..., Any], clip: bool = False, **options: Any) -> Callable[..., Any]:
    optimizer = kind(net.parameters(), lr=0.1, **options)

    def step(x, y):
        optimizer.zero_grad()
        value = loss(net(x), y)
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        for p in net.parameters():
            p.grad = None
        return value

    return step


PROGRAMS = {
    "forward": lambda: Recorded(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), normal(16, 6)),
    "step": lambda: Recorded(
        step_of(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), optim.Adam, F.mse_loss),
        normal(16, 6),
        normal(16, 4),
    ),
    "dropout": lambda: Recorded(
        step_of(
            nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)),
            optim.SGD,
            F.cross_entropy,
            clip=True,
            momentum=0.9,
        ),
        normal(16, 6),
        labels(16, 4),
    ),
    "large": lambda: Recorded(
        step_of(nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 48)), optim.RMSprop, F.cross_entropy),
        normal(48, 64),
        labels(48, 48),
    ),
    "norms": lambda: Recorded(  # with as many columns as rows
        step_of(
            nn.MLP(6, (16, 16), 4, norm=nn.BatchNorm1d).append(nn.LayerNorm(4)),
            optim.SGD,
            F.cross_entropy,
            momentum=0.9,
        ),
        normal(16, 6),
        labels(16, 4),
    ),
    "rows and columns": lambda: Recorded(
        lambda x, y: ((x + y).sum(0), (x * y).sum(1), x @ y.t(), F.softmax(x, 1) - F.softmax(y, 0), x[2:] + y[:-2]),
        normal(12, 12),
        normal(12, 12, seed=1),
    ),
    "in place": lambda: Recorded(
        lambda x, y: (x.add_(y.sum(0)), y.copy_(x.t()), x.mul_(2), x + y)[-1:], normal(9, 9), normal(9, 9, seed=1)
    ),
    "parts": lambda: Recorded(
        lambda x, y: tuple(F.mse_loss(x[i : i + 4] @ y, x[i : i + 4] * 2) for i in range(0, 12, 4)),
        normal(12, 12),
        normal(12, 12, seed=1),
    ),
}


def built_of(recorded: Recorded, guarded: bool = False) -> Built:
    return build(recorded.calls, recorded.inputs, recorded.outputs, guarded)


def built_programs() -> Iterator[tuple[str, Built]]:
    """Every program; and those whose first result is one number also with a guard."""
    for name, make in PROGRAMS.items():
        yield name, built_of(make())
        recorded = make()
        if recorded.outputs[0].size == 1 and "parts" not in name:
            yield f"{name}, guarded", built_of(recorded, guarded=True)


def order_of(built: Built, stage: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(group, place in it) by (item, phase) of a stage: a share takes them in this order."""
    groups = built.groups[stage]
    return {member: (g, at) for g, group in enumerate(groups) for at, member in enumerate(group.members)}


def overlap(a: Any, b: Any) -> bool:
    return (a.writes or b.writes) and a.low < b.high and b.low < a.high
