"""What a case of an operation is, and the inputs that cases are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], np.ndarray]


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.2, 3.0, shape)


def unit(*shape):
    return lambda rng: rng.uniform(0.05, 0.95, shape)


def apart(*shape):
    """Values at least 0.1 apart and at least 0.05 away from 0 and ±0.5: no tie, no kink within a difference step."""
    size = int(np.prod(shape))
    return lambda rng: rng.permutation(np.arange(size) - size // 2 + 0.55).reshape(shape) * 0.1


def between(*shape):
    """As `apart`, never within a difference step of a value of `apart`."""
    return lambda rng: apart(*shape)(rng) + 0.03


def labels(rows, classes, ignored=None):
    """int64 labels; the row `ignored` carries PyTorch's ignore_index."""

    def draw(rng):
        values = np.array(rng.integers(0, classes, rows))
        if ignored is not None:
            values[ignored] = -100
        return values

    return draw


def probabilities(*shape):
    def draw(rng):
        values = rng.uniform(0.1, 1.0, shape)
        return values / values.sum(1, keepdims=True)

    return draw


def signs(*shape):
    return lambda rng: rng.choice([-1.0, 1.0], shape)


def truths(*shape):
    return lambda rng: rng.integers(0, 2, shape).astype(np.float64)


def counts(*shape):
    return lambda rng: rng.poisson(2.0, shape).astype(np.float64)


@dataclass(frozen=True)
class Case:
    """An operation and the inputs it is tried on; all are differentiated but the last `fixed` ones (targets).

    function(library, *inputs): the operation, fastbp's or PyTorch's. in_torch: the same in PyTorch where that has no
    such operation of its own.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[Draw, ...]
    fixed: int
    in_torch: Callable[..., Any] | None

    def run(self, library: Any, *inputs: Any) -> Any:
        """The operation on tensors of a library."""
        if self.in_torch is not None and library.__name__ == "torch":
            return self.in_torch(library, *inputs)
        return self.function(library, *inputs)

    def arrays(self, dtype: type = np.float64) -> list[np.ndarray]:
        """The inputs, the same in every run; integers stay integers."""
        rng = np.random.default_rng([ord(letter) for letter in self.name])
        drawn = [np.asarray(draw(rng)) for draw in self.inputs]
        return [array.astype(dtype) if array.dtype.kind == "f" else array for array in drawn]

    def tensors(self, library: Any, dtype: type = np.float64) -> list[Any]:
        """The inputs as tensors of a library, those that are differentiated recording gradients."""
        tensors = [library.tensor(array) for array in self.arrays(dtype)]
        for tensor in tensors[: len(tensors) - self.fixed]:
            tensor.requires_grad_()
        return tensors


def case(
    name: str, function: Callable[..., Any], *inputs: Any, fixed: int = 0, in_torch: Callable[..., Any] | None = None
) -> Case:
    return Case(name, function, inputs, fixed, in_torch)
