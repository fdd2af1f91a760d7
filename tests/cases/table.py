"""The table of kernel cases: what a case is, and where operands come from."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.kernels import reference

# Around 1, 4, 8 and 16 lanes, odd primes, around the 512 terms of a chain, and enough for several threads.
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 61, 127, 511, 512, 513, 1025)
MANY = 10007


@dataclass(frozen=True)
class Out:
    """An operand that a kernel overwrites: shape, type (None: T), strides in elements (None: contiguous)."""

    shape: tuple[int, ...]
    dtype: str | None = None
    strides: tuple[int, ...] | None = None

    def layout(self, dtype: str) -> np.ndarray:
        """An array of this shape, type and strides, not to be looked into."""
        empty = np.empty(self.shape, self.dtype or dtype)
        if self.strides is None:
            return empty
        return np.lib.stride_tricks.as_strided(empty, strides=[s * empty.itemsize for s in self.strides])


@dataclass(frozen=True)
class Case:
    kernel: str
    label: str
    arguments: Callable[[Draw, np.dtype], Iterator[list[Any]]]
    dtypes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.label}"

    def variants(self, dtype: str) -> list[list[Any]]:
        """The argument lists of the case for one type, always the same."""
        return list(self.arguments(Draw(np.random.default_rng(zlib.crc32(self.name.encode()))), np.dtype(dtype)))


class Draw:
    """Random operands."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def values(self, T: np.dtype, *shape: int) -> np.ndarray:
        """Values of ordinary size of any type."""
        if T == np.bool_:
            return np.asarray(self.rng.random(shape) < 0.5)
        if T == np.int64:
            return np.asarray(self.rng.integers(-100, 100, shape))
        return np.asarray(self.rng.normal(size=shape), T)

    def spread(self, T: np.dtype, n: int) -> np.ndarray:
        """Half of ordinary size, half of sizes from e^−20 to e^20, of both signs."""
        if T.kind != "f":
            return self.values(T, n)
        wide = np.exp(self.rng.uniform(-20, 20, n)) * self.rng.choice([-1.0, 1.0], n)
        return np.where(self.rng.random(n) < 0.5, self.rng.normal(size=n) * 2, wide).astype(T)

    def positive(self, T: np.dtype, *shape: int) -> np.ndarray:
        return (self.rng.random(shape) + 0.1).astype(T)

    def mask(self, *shape: int) -> np.ndarray:
        return self.values(np.dtype(bool), *shape)

    def index(self, bound: int, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.integers(0, bound, shape))


def special(T: np.dtype) -> np.ndarray:
    """Values where rules are easily broken."""
    if T == np.bool_:
        return np.array([False, True])
    if T == np.int64:
        low, high = np.iinfo(T).min, np.iinfo(T).max
        return np.array([0, 1, -1, 2, -3, 2**53 + 1, low, low + 1, high, high - 1])
    f = np.finfo(T)
    finite = [0.0, 1.0, 0.5, 3.0, 88.0, 1e4, f.smallest_subnormal, f.tiny, f.tiny * 0.75, f.eps, 1 + f.eps, f.max]
    both = np.array([*finite, np.inf], T)
    return np.concatenate([both, -both, np.array([np.nan], T)])


TABLE: list[Case] = []


def case(kernel: str, label: str, dtypes: tuple[str, ...] | None = None) -> Callable[[Any], Any]:
    """Add a case, whose function yields argument lists; types are those of the kernel unless given."""

    def add(arguments: Callable[[Draw, np.dtype], Iterator[list[Any]]]) -> Any:
        TABLE.append(Case(kernel, label, arguments, dtypes or getattr(reference, kernel).facts.dtypes))
        return arguments

    return add
