"""A recorded kernel call as plain data, and what memory it touches.

Passes take lists of calls and return lists of calls; they compare memory by address: what a recording allocates has
addresses of its own, which are never given out twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastbp.kernels import reference
from fastbp.kernels.facts import Facts
from fastbp.kernels.storage import Buffer


class Touch(NamedTuple):
    """Memory that a call reads or writes: the addresses [low, high), in the storage that begins at `storage`.

    cut: whether a part of the call's rows touches only the same part of this memory.
    """

    storage: int
    low: int
    high: int
    writes: bool
    cut: bool


@dataclass(frozen=True, eq=False)
class Call:
    """A kernel's name and its arguments: buffers, lists of buffers, and constants by value."""

    kernel: str
    arguments: tuple[Any, ...]

    @functools.cached_property
    def facts(self) -> Facts:
        return getattr(reference, self.kernel).facts

    def __getitem__(self, name: str) -> Any:
        """An argument by the name that the kernel gives it."""
        return self.arguments[self.facts.parameters.index(name)]

    def named(self) -> dict[str, Any]:
        return dict(zip(self.facts.parameters, self.arguments))

    def replace(self, **changes: Any) -> Call:
        """The same call with other values for some arguments."""
        return Call(self.kernel, tuple({**self.named(), **changes}.values()))

    def map(self, change: Callable[[Buffer], Buffer]) -> Call:
        """The same call with every buffer changed."""

        def changed(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [changed(v) for v in value]
            return change(value) if isinstance(value, Buffer) else value

        return Call(self.kernel, tuple(changed(v) for v in self.arguments))

    def buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every tensor with the name of its operand."""
        for name, value in zip(self.facts.parameters, self.arguments):
            for b in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(b, Buffer):
                    yield name, b

    @functools.cached_property
    def rows(self) -> int:
        """How many rows, or columns, a share of the call may be cut from; 0 where it cannot be cut."""
        facts = self.facts
        if facts.partition in ("none", "outputs"):
            return 0
        last = self[facts.writes(**self.named())[-1]]
        last = last[0] if isinstance(last, (list, tuple)) and len(last) == 1 else last
        return last.shape[0] if isinstance(last, Buffer) and last.shape and last.contiguous else 0

    def touches(self, rows: int | None = None) -> list[Touch]:
        """All memory that the call reads and writes. rows: what it is cut from; 0 where it is not cut."""
        return list(self._touches if rows is None or rows else self._touches_of_one)

    @functools.cached_property
    def _touches_of_one(self) -> list[Touch]:
        return [touch._replace(cut=False) if touch.cut else touch for touch in self._touches]

    @functools.cached_property
    def _touches(self) -> list[Touch]:
        facts, named, rows = self.facts, self.named(), self.rows
        reads, writes = facts.reads(**named), facts.writes(**named)
        whole = {*facts.whole, *facts.inputs} if facts.partition == "output rows" else facts.whole
        by_columns = facts.partition == "columns"
        out = named[writes[-1]]
        flat = facts.partition == "elements" and isinstance(out, Buffer)  # else all have as many rows
        result = []
        for name, b in self.buffers():
            storage, (low, high) = b.storage[0], b.extent
            cut = bool(rows) and b.contiguous and name not in whole and b.shape[:1] == (rows,)
            cut = cut and not (flat and b.size != out.size) and not (by_columns and b.ndim > 1)
            if name in reads:
                result.append(Touch(storage, low, high, False, cut))
            if name in writes:
                result.append(Touch(storage, low, high, True, cut))
        return result
