"""Chunks: a batch of many rows goes through the program 512 at a time, so that what it keeps does not grow with it.

    for each chunk:  forward, loss and gradients of its rows;  dw += dyᵀ·x over its rows
    then:            the optimizer, and all the rest

Sums over rows take 512 terms at a time anyway (the numerical contract), so that the bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastbp._native import PLACEHOLDERS
from fastbp.program.calls import Call
from fastbp.program.passes.panels import Pack
from fastbp.program.passes.uses import Ranges
from fastbp.program.schedule import Item

CHUNK = 512
_MOST = 512  # chunks: beyond them the contract adds totals in another order
_SUMS = "linear_backward_weight", "row_norm_backward_weight"  # whose terms are rows: those of csrc/program.cpp
NOT, ROWS, TERMS = range(3)  # how an item takes part, as csrc/program.h has it


class Chunks(NamedTuple):
    """rows: of the batch, 0 where there are no chunks. part: of each item. local: by storage, the bytes of a row of
    what holds one chunk only."""

    rows: int
    part: list[int]
    local: dict[int, int]


def chunks_of(items: Sequence[Item], stages: Sequence[int], live: Ranges) -> Chunks:
    """The chunks of a program: where only its first stage goes over the rows of a batch of more than one."""
    none = Chunks(0, [NOT] * len(items), {})
    rows = max((item.rows for item, stage in zip(items, stages) if stage == 0), default=0)
    if not CHUNK < rows <= CHUNK * _MOST:
        return none
    part = [_part(item, stage, rows) for item, stage in zip(items, stages)]
    of_batch = {touch.storage for item, p in zip(items, part) if p == ROWS for touch in item.touches if touch.cut}
    for item, p in zip(items, part):
        if p == NOT and item.rows == rows and any(touch.cut and touch.storage in of_batch for touch in item.touches):
            return none  # the rows are wanted once more after a barrier
    if TERMS not in part:
        return none
    return Chunks(rows, part, _local(items, part, rows, live))


def _part(item: Item, stage: int, rows: int) -> int:
    if stage == 0 and item.rows == rows:
        return ROWS
    step = item.step
    if stage != 1 or item.rows <= 0 or not isinstance(step, Call) or step.kernel not in _SUMS:
        return NOT
    return TERMS if step["dy"].shape[0] == rows and not step["accumulate"] else NOT


def _local(items: Sequence[Item], part: Sequence[int], rows: int, live: Ranges) -> dict[int, int]:
    """What only the parts of a chunk touch, row by row."""
    found: dict[int, int] = {}
    for item, p in zip(items, part):
        for touch in item.touches:
            size = touch.high - touch.low
            whole = touch.low == touch.storage and (touch.cut or isinstance(item.step, Pack) or p == TERMS)
            fits = p != NOT and whole and size % rows == 0 and not (p == TERMS and touch.writes)
            row_bytes = size // rows if fits and touch.storage >= PLACEHOLDERS else 0
            if any(touch.low < high and low < touch.high for low, high in live):
                row_bytes = 0
            found[touch.storage] = row_bytes if found.get(touch.storage, row_bytes) == row_bytes else 0
    return {storage: row_bytes for storage, row_bytes in found.items() if row_bytes}
