"""Memory for test operands: aligned, off by one element, or against a page that must not be touched.

Around an operand lies a known pattern, so that a write outside of it is seen afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable

import numpy as np

MARGIN = 64
PATTERN = 0xA5  # as a float a small negative number, as an int64 a large negative one, as a bool not a bool
PROT_NONE = 0  # of <sys/mman.h>; Python's mmap does not name it
C = ctypes.CDLL(None, use_errno=True)

# ---------------------------------------------------------------- places

# From the bytes and the item size of an operand: memory, and where in it the operand is to start.
Place = Callable[[int, int], tuple[np.ndarray, int]]


def aligned(nbytes: int, itemsize: int) -> tuple[np.ndarray, int]:
    memory = np.empty(nbytes + 4 * MARGIN, np.uint8)
    start = -memory.__array_interface__["data"][0] % MARGIN
    return memory[start : start + nbytes + 3 * MARGIN], MARGIN


def misaligned(nbytes: int, itemsize: int) -> tuple[np.ndarray, int]:
    memory, start = aligned(nbytes, itemsize)
    return memory, start + itemsize


def before_guard(nbytes: int, itemsize: int) -> tuple[np.ndarray, int]:
    """Against a page behind it: reading or writing one byte more ends the process."""
    memory = guarded_pages(nbytes)
    return memory, len(memory) - nbytes


def behind_guard(nbytes: int, itemsize: int) -> tuple[np.ndarray, int]:
    """Against a page in front of it: aligned, too."""
    return guarded_pages(nbytes), 0


def guarded_pages(nbytes: int) -> np.ndarray:
    """Whole pages for so many bytes, between two that cannot be read or written."""
    page = mmap.PAGESIZE
    size = -(-max(nbytes, 1) // page) * page
    memory = np.frombuffer(mmap.mmap(-1, size + 2 * page), np.uint8)
    start = memory.__array_interface__["data"][0]
    for address in (start, start + page + size):
        if C.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    return memory[page : page + size]


GUARDED: tuple[Place, ...] = (behind_guard, before_guard) if sys.platform == "linux" else (aligned,)

# ---------------------------------------------------------------- operands


class Operand:
    """An array of the given layout with a pattern around it. `array` is what a kernel gets."""

    def __init__(self, like: np.ndarray, place: Place = aligned) -> None:
        low, nbytes = extent(like)
        self.memory, start = place(nbytes, like.itemsize)
        self.memory[...] = PATTERN
        self.array = lay(like, self.memory, start + low)
        self.before = self.memory

    def fill(self, values: np.ndarray | None) -> None:
        """Write the values, or poison: NaN for floats, the pattern for others."""
        if values is not None:
            self.array[...] = values
        elif self.array.dtype.kind == "f":
            self.array[...] = np.nan
        self.before = self.memory.copy()

    def untouched(self) -> bool:
        """Whether all bytes are as they were after `fill`."""
        return bool(np.array_equal(self.memory, self.before))

    def margin_untouched(self) -> bool:
        """Whether all bytes around the array are as they were."""
        memory = self.memory.copy()
        offset = self.array.__array_interface__["data"][0] - self.memory.__array_interface__["data"][0]
        lay(self.array, memory, offset)[...] = lay(self.array, self.before, offset)
        return bool(np.array_equal(memory, self.before))


def extent(like: np.ndarray) -> tuple[int, int]:
    """Bytes from the lowest element of an array to its first one, and from the lowest to the end of the highest."""
    if like.size == 0:
        return 0, 0
    reach = [(n - 1) * s for n, s in zip(like.shape, like.strides)]
    low = -sum(r for r in reach if r < 0)
    return low, low + sum(r for r in reach if r > 0) + like.itemsize


def lay(like: np.ndarray, memory: np.ndarray, offset: int) -> np.ndarray:
    """An array of the same layout on other memory, its first element at an offset in bytes."""
    return np.ndarray(like.shape, like.dtype, memory.data, offset, like.strides)
