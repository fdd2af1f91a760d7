"""Memory for test operands: aligned, off by one element, or against a page that must not be touched.

Around an operand lies a margin with a known pattern, so that a write outside of it is seen afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

MARGIN = 64
PATTERN = 0xA5  # as a float a small negative number, as an int64 a large negative one, as a bool not a bool
CAN_GUARD = sys.platform == "linux"
PROT_NONE = 0  # of <sys/mman.h>; Python's mmap does not name it


class Operand:
    """An array of the given layout inside a margin. `array` is what a kernel gets."""

    def __init__(self, like: np.ndarray, offset: int = 0) -> None:
        low, nbytes = extent(like)
        memory = np.full(nbytes + 4 * MARGIN, PATTERN, np.uint8)
        start = -memory.__array_interface__["data"][0] % MARGIN
        self.memory = memory[start : start + nbytes + 3 * MARGIN]
        self.array = lay(like, self.memory, MARGIN + offset * like.itemsize + low)
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


class GuardedMemory:
    """Copies of arrays that end where an unreadable page starts, or start where one ends."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.blocks: list[tuple[np.ndarray, mmap.mmap]] = []
        self.used = 0

    def reset(self) -> None:
        """Let the memory handed out so far be used again."""
        self.used = 0

    def place(self, like: np.ndarray, at_end: bool) -> np.ndarray:
        """An array of the same layout and values, its highest (or lowest) byte next to the page."""
        low, nbytes = extent(like)
        block = self.block(nbytes)
        memory = block[len(block) - nbytes :] if at_end else block[:nbytes]
        array = lay(like, memory, low) if like.size else np.empty_like(like)
        array[...] = like
        return array

    def block(self, nbytes: int) -> np.ndarray:
        """The next block of at least so many bytes, whole pages between two unreadable ones."""
        if self.used == len(self.blocks) or len(self.blocks[self.used][0]) < nbytes:
            self.blocks.insert(self.used, self.map(nbytes))
        self.used += 1
        return self.blocks[self.used - 1][0]

    def map(self, nbytes: int) -> tuple[np.ndarray, mmap.mmap]:
        page = mmap.PAGESIZE
        size = -(-max(nbytes, 1) // page) * page
        mapping = mmap.mmap(-1, size + 2 * page)
        memory = np.frombuffer(mapping, np.uint8)
        start = memory.__array_interface__["data"][0]
        for address in (start, start + page + size):
            if self.libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        return memory[page : page + size], mapping
