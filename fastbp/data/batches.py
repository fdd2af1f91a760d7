"""Batches of arrays in memory, or mapped into memory, in an order that the seed decides."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastbp.from_data import from_numpy
from fastbp.ops.random import Generator, randperm
from fastbp.tensor import Tensor

# A batch holds what tensors can: other widths are brought to these.
_DTYPES = {"f2": np.float32, "f4": np.float32, "f8": np.float64, "b1": np.bool_} | {
    f"{kind}{size}": np.int64 for kind in "iu" for size in (1, 2, 4, 8) if kind + str(size) != "u8"
}

# Orders are drawn from streams that the program's generator, which counts from 0, does not reach: with one seed for
# both, the order of the rows is independent of the initial weights.
_FIRST_STREAM = 2**32


class Batches:
    """Yields tuples of tensors, `batch_size` rows of each array at a time; iterate once per epoch.

    arrays: NumPy arrays, memory-mapped arrays (read batch by batch, never as a whole) or tensors, with equal numbers of
    rows; usually x, y or x, y, sample_weight. Rows are copied. float16 becomes float32, other integers become int64.
    shuffle: rows come in another order in each epoch, a permutation by Philox keyed by (seed, epoch): the same on every
    machine. `epoch` counts the iterations started and may be set to continue a run.
    drop_last: leave out a last batch with fewer rows.
    transform: called with the arrays of each batch (NumPy, in the dtypes given), returns those to yield; for example
    the scaling of mapped bytes.
    Raises ValueError for no rows, unequal rows, a batch size or seed out of range; TypeError for a dtype that tensors
    lack.
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        transform: Callable[..., tuple[np.ndarray, ...]] | None = None,
    ) -> None:
        if not arrays:
            raise ValueError("[Batches] expected at least one array, got none")
        self.arrays = tuple(_as_array(position, array) for position, array in enumerate(arrays))
        self.rows = len(self.arrays[0])
        for position, array in enumerate(self.arrays):
            if len(array) != self.rows:
                raise ValueError(f"[Batches] expected {self.rows} rows in array {position}, got {len(array)}")
        if not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"[Batches] expected batch_size as an integer, got {type(batch_size).__name__}")
        self.batch_size = int(batch_size)
        self.seed = operator.index(seed)
        self.shuffle, self.drop_last, self.transform = bool(shuffle), bool(drop_last), transform
        self.epoch = 0
        if self.batch_size < 1:
            raise ValueError(f"[Batches] expected batch_size >= 1, got {batch_size}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"[Batches] expected a seed from 0 to 2^63 - 1, got {seed}")
        if len(self) == 0:
            what = f"at least one batch of {batch_size} rows" if drop_last and self.rows else "at least one row"
            raise ValueError(f"[Batches] expected {what}, got {self.rows} rows")

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return (self.rows if self.drop_last else self.rows + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return self._epoch(self.next_order())

    def next_order(self) -> np.ndarray | None:
        """Start an epoch and return its permutation, or None where rows keep their order."""
        order = self.order(self.epoch) if self.shuffle else None
        self.epoch += 1
        return order

    def order(self, epoch: int) -> np.ndarray:
        """Return the permutation (rows,) int64 that a shuffled epoch follows."""
        generator = Generator()
        generator.set_state((self.seed, _FIRST_STREAM + epoch))
        return randperm(self.rows, generator=generator).numpy()

    def _epoch(self, order: np.ndarray | None) -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            rows = slice(start, start + self.batch_size)
            index = rows if order is None else order[rows]
            batch = tuple(array[index] for array in self.arrays)
            if self.transform is not None:
                batch = tuple(self.transform(*batch))
            yield tuple(from_numpy(_copy(values)) for values in batch)


def _as_array(position: int, array: Any) -> np.ndarray:
    if isinstance(array, Tensor):
        array = array.detach().numpy()
    elif not isinstance(array, np.ndarray):
        array = np.asarray(array)
    _dtype(array, f"array {position}")
    if array.ndim == 0:
        raise ValueError(f"[Batches] expected rows in array {position}, got a single value")
    return array


def _copy(values: np.ndarray) -> np.ndarray:
    """Return a new contiguous array in a tensor's dtype: the batch is the caller's, whatever is done to it."""
    return np.array(values, dtype=_dtype(values, "the transform's result"), order="C", subok=False)


def _dtype(array: np.ndarray, name: str) -> Any:
    dtype = _DTYPES.get(array.dtype.str[1:])
    if dtype is None:
        raise TypeError(f"[Batches] expected floats, integers or booleans in {name}, got dtype {array.dtype}")
    return dtype
