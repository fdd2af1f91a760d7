"""Random tensors by Philox4x32-10: every number is a function of (seed, stream, element), each call takes a stream.

Results do not depend on threads, instruction set or backend. Without manual_seed the seed is 0, so that every run of a
program draws the same numbers.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import numpy as np

from fastbp import kernels
from fastbp.dtypes import DType, as_dtype, float32, int64
from fastbp.kernels.storage import from_array
from fastbp.ops.common import like, new, sizes_from
from fastbp.tensor import Tensor

__all__ = [
    "Generator",
    "bernoulli",
    "dropout",
    "manual_seed",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
]


_generators: weakref.WeakSet[Generator] = weakref.WeakSet()


def _after_fork() -> None:
    """A child has no thread that would release what was locked at the fork."""
    for generator in _generators:
        generator.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Generator:
    """A source of random numbers: a live (seed, stream) pair that every draw advances."""

    def __init__(self, seed: int = 0) -> None:
        self._state = np.zeros(2, np.int64)
        self.buffer = from_array(self._state)
        self.lock = threading.Lock()
        _generators.add(self)
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Starts again from a seed; ValueError outside of 64 bits."""
        if not isinstance(seed, (int, np.integer)):
            raise TypeError(f"[manual_seed] expected an integer, got {type(seed).__name__}")
        if not -(2**63) <= int(seed) < 2**64:
            raise ValueError(f"[manual_seed] expected a seed of 64 bits, got {seed}")
        with self.lock:
            self._state[:] = np.array([int(seed) & (2**64 - 1), 0], np.uint64).view(np.int64)
        return self

    def get_state(self) -> tuple[int, int]:
        """(seed, stream)."""
        return int(self._state[0]), int(self._state[1])

    def set_state(self, state: tuple[int, int]) -> None:
        """Goes on from what get_state returned."""
        with self.lock:
            self._state[:] = state

    def draw(self, kernel: str, y: Any, *constants: float) -> None:
        """Runs a random kernel into a buffer and moves on to the next stream."""
        k = kernels.host()
        with self.lock:
            getattr(k, kernel)(self.buffer, *constants, y)
            k.rng_advance(self.buffer)


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seeds the default generator; equal seeds give equal numbers on every machine."""
    return default_generator.manual_seed(seed)


def _floating(op: str, dtype: Any) -> DType:
    kind = float32 if dtype is None else as_dtype(dtype)
    if not kind.is_floating_point:
        raise TypeError(f"[{op}] expected a floating dtype, got {kind}")
    return kind


def rand(*shape: Any, dtype: Any = None, generator: Generator | None = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1)."""
    y = new(sizes_from("rand", shape), _floating("rand", dtype))
    (generator or default_generator).draw("uniform", y.buffer, 0.0, 1.0)
    return y.requires_grad_(requires_grad)


def randn(*shape: Any, dtype: Any = None, generator: Generator | None = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and standard deviation 1."""
    y = new(sizes_from("randn", shape), _floating("randn", dtype))
    (generator or default_generator).draw("normal", y.buffer, 0.0, 1.0)
    return y.requires_grad_(requires_grad)


def rand_like(x: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of the shape and dtype of x."""
    return rand(x.shape, dtype=x.dtype)


def randn_like(x: Tensor) -> Tensor:
    """Normal numbers of the shape and dtype of x."""
    return randn(x.shape, dtype=x.dtype)


def randint(low: int, high: int | None = None, size: Any = (), generator: Generator | None = None) -> Tensor:
    """Integers from low (0 when one bound is given) to high − 1. ValueError when there are none."""
    if high is None:
        low, high = 0, low
    elif not isinstance(high, int):
        low, high, size = 0, low, high
    if low >= high:
        raise ValueError(f"[randint] expected low < high, got {low} and {high}")
    y = new(sizes_from("randint", (size,)), int64)
    (generator or default_generator).draw("randint", y.buffer, low, high)
    return y


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The integers 0 .. n − 1 in random order."""
    if n < 0:
        raise ValueError(f"[randperm] expected n ≥ 0, got {n}")
    y = new((n,), int64)
    (generator or default_generator).draw("permutation", y.buffer)
    return y


def bernoulli(p: Tensor) -> Tensor:
    """1 with probability p, else 0, for each element of p."""
    return (rand_like(p) < p).to(p.dtype)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each element is 0 with probability p, else x/(1 − p); otherwise x itself (Srivastava et al., 2014).

    ValueError for p outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[dropout] expected p from 0 to 1, got {p}")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    mask = like(x)
    default_generator.draw("dropout_mask", mask.buffer, float(p))
    return x * mask


def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills x with uniform numbers in [low, high), in place."""
    (generator or default_generator).draw("uniform", x.buffer, float(low), float(high))
    return x


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills x with normal numbers, in place. ValueError for std < 0."""
    if std < 0:
        raise ValueError(f"[normal_] expected std ≥ 0, got {std}")
    (generator or default_generator).draw("normal", x.buffer, float(mean), float(std))
    return x
