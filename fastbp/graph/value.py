"""What a tensor held at one moment: all elements of a small one; of a larger one the numbers that sum it up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 16  # of a histogram: as many as a line of text holds beside the numbers
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the finite elements: √Σx², the least, the largest, the mean, and how many lie in each of BINS equal steps."""

    norm: float
    min: float
    max: float
    mean: float
    counts: tuple[int, ...]  # one where all are equal, none where there are none
    nan: int  # how many are NaN
    inf: int  # how many are infinite


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """The elements of a tensor, or where there are many their summary: one of the two is None."""

    shape: tuple[int, ...]
    dtype: str
    array: np.ndarray | None
    summary: Summary | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def tolist(self) -> Any:
        """The elements as nested lists, or the one number of a scalar; None where only the summary was kept."""
        return None if self.array is None else self.array.tolist()

    def reshaped(self, shape: Sequence[int]) -> Value:
        """The same elements in another shape."""
        array = None if self.array is None else self.array.reshape(shape)
        return Value(tuple(shape), self.dtype, array, self.summary)

    def permuted(self, dims: Sequence[int]) -> Value:
        """The same elements with the dimensions in another order."""
        array = None if self.array is None else self.array.transpose(dims)
        return Value(tuple(self.shape[d] for d in dims), self.dtype, array, self.summary)

    def __str__(self) -> str:
        """On one line: 1.2 for a scalar; [1.2]; [[1, 2], [3, 4]]; or of a larger one the summary,
        "(64, 128) norm 12.3, from -1 to 1, mean 0.1 ▁▃█▃▁"."""
        if self.summary is not None:
            return f"{self.shape} {', '.join(self.facts())}{' ' + bars if (bars := self.bars()) else ''}"
        if self.array is None or not self.array.size:
            return f"empty {self.shape}"
        return _nested(self.array.tolist())

    def brief(self) -> str:
        """On a short line: of a larger tensor the shape and the first of the facts."""
        return str(self) if self.summary is None else f"{self.shape} {self.facts()[0]}"

    def rows(self) -> list[str]:
        """The elements of a small tensor as the lines of a matrix with aligned columns."""
        if self.array is None or self.array.size < 2:
            return [str(self)]
        cells = [[number(x) for x in row] for row in self.array.reshape(-1, self.array.shape[-1]).tolist()]
        widths = [max(map(len, column)) for column in zip(*cells)]
        return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells]

    def facts(self) -> list[str]:
        """The summary in words."""
        s = self.summary
        if s is None:
            return []
        if s.min == s.max and not (s.nan or s.inf):
            return [f"all {number(s.min)}"]
        finite = [f"norm {number(s.norm)}", f"from {number(s.min)} to {number(s.max)}", f"mean {number(s.mean)}"]
        others = [f"{count:,} {kind}" for count, kind in ((s.nan, "nan"), (s.inf, "inf")) if count]
        return [*(finite if s.counts else []), *others]

    def bars(self) -> str:
        """The histogram as a row of blocks; the lowest block stands for none."""
        counts = self.summary.counts if self.summary else ()
        if len(counts) < 2:
            return ""
        return "".join(_BLOCKS[math.ceil(count * (len(_BLOCKS) - 1) / max(counts))] for count in counts)

    @property
    def finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        if self.summary is not None:
            return not (self.summary.nan or self.summary.inf)
        return self.array is None or bool(np.isfinite(self.array).all())


def number(x: float | int | bool) -> str:
    """A number to six significant digits, which is what float32 holds."""
    if isinstance(x, bool) or not isinstance(x, float):
        return str(x)
    return format(x + 0.0 if x else 0.0, ".6g")


def note(array: np.ndarray, elements: int) -> Value:
    """A copy of an array with at most so many elements, the summary of a larger one."""
    if array.size <= elements:
        return Value(array.shape, array.dtype.name, array.copy())
    return Value(array.shape, array.dtype.name, None, _summary(array))


def of_number(x: float | int) -> Value:
    """A Python number."""
    return Value((), type(x).__name__, np.array(x))


def _nested(values: Any) -> str:
    return f"[{', '.join(map(_nested, values))}]" if isinstance(values, list) else number(values)


def _summary(array: np.ndarray) -> Summary:
    # An expanded dimension repeats what is there: it is looked at once, and counted as often as it is long.
    repeats = [n if stride == 0 else 1 for n, stride in zip(array.shape, array.strides)]
    seen = array[tuple([slice(0, 1) if n > 1 else slice(None) for n in repeats])]
    times = math.prod(repeats)
    x = seen.astype(np.float64).ravel()
    finite = x[np.isfinite(x)]
    nan = int(np.isnan(x).sum())
    inf = x.size - finite.size - nan
    if not finite.size:
        return Summary(math.nan, math.nan, math.nan, math.nan, (), nan * times, inf * times)
    low, high = float(finite.min()), float(finite.max())
    scale = max(abs(low), abs(high)) or 1.0
    finite /= scale  # so that no square overflows, nor the step from the least to the largest
    counts = np.histogram(finite, BINS, (low / scale, high / scale))[0] if low < high else [finite.size]
    norm = scale * math.sqrt(float(finite @ finite) * times)
    mean = min(max(scale * float(finite.mean()), low), high)
    return Summary(norm, low, high, mean, tuple(int(n) * times for n in counts), nan * times, inf * times)
