"""Panels: matrices copied once into the layout that products read fastest, for every product that reads them.

    y = x·wᵀ, dx = dy·w     panels of w, kept from run to run: packed again right after each step that writes w
    dw = dyᵀ·x              panels of x, packed right after x is made

A `Pack` is no kernel of the catalogue: it changes where a product reads from, and not one bit of a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastbp._native import PLACEHOLDERS, empty_panels
from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call, Touch
from fastbp.program.passes.uses import Uses

_FEWEST_ROWS = 4  # of x in x·wᵀ: fewer read w once, as it lies
_FEWEST_WEIGHT_ROWS = 32  # of dw: fewer do not repay a copy of x
_SMALLEST, _LARGEST = 512, 1 << 22  # elements of a matrix: larger ones cost more memory than the copies time


class Pack(NamedTuple):
    """Copies a matrix (n, k), or its transpose, into panels."""

    matrix: Buffer
    transposed: bool
    panels: Buffer

    @property
    def rows(self) -> int:
        return self.matrix.shape[0]

    def buffers(self) -> list[tuple[str, Buffer]]:
        return [("matrix", self.matrix), ("panels", self.panels)]

    def touches(self, rows: int) -> list[Touch]:
        low, high = self.matrix.extent
        begin, end = self.panels.extent
        return [
            Touch(self.matrix.storage[0], low, high, False, bool(rows)),
            Touch(self.panels.storage[0], begin, end, True, False),
        ]


class Panelled(NamedTuple):
    """Calls and packs in order. uses: by position, the panels that a call reads. kept: packs of what outlives a run."""

    steps: list[Call | Pack]
    uses: dict[int, Buffer]
    kept: list[Pack]


def add_panels(calls: Sequence[Call]) -> Panelled:
    """The calls with packs for the products among them. New tensors must be placeholders."""
    wanted: dict[tuple[int, bool], Pack] = {}  # by address of the matrix and whether it is transposed
    of_call: dict[int, Pack] = {}
    uses = Uses(calls, ())
    for i, call in enumerate(calls):
        matrix, transposed = _second_factor(call)
        if matrix is None or not _SMALLEST <= matrix.size <= _LARGEST or not _packable(call, matrix, i, uses):
            continue
        key = matrix.data_ptr, transposed
        if key not in wanted:
            wanted[key] = Pack(matrix, transposed, empty_panels(matrix, transposed))
        if wanted[key].matrix.same_kind(matrix):
            of_call[i] = wanted[key]
    packs: dict[int, list[Pack]] = {}  # by storage
    for pack in wanted.values():
        packs.setdefault(pack.matrix.storage[0], []).append(pack)

    steps: list[Call | Pack] = []
    read: dict[int, Buffer] = {}
    for pack in wanted.values():
        if pack.matrix.data_ptr >= PLACEHOLDERS and not uses.writing(pack.matrix):
            steps.append(pack)  # of an input
    for i, call in enumerate(calls):
        if i in of_call:
            read[len(steps)] = of_call[i].panels
        steps.append(call)
        for touch in call.touches():
            if touch.writes:
                steps += [p for p in packs.get(touch.storage, ()) if _overlap(touch, p.matrix)]
    return Panelled(steps, read, [pack for pack in wanted.values() if pack.matrix.data_ptr < PLACEHOLDERS])


def _second_factor(call: Call) -> tuple[Buffer | None, bool]:
    """The matrix that a product reads again and again, and whether its panels are those of the transpose."""
    if call.kernel == "linear_forward" and call["x"].shape[0] >= _FEWEST_ROWS:
        return call["w"], True
    if call.kernel == "linear_backward_input" and call["dy"].shape[0] >= _FEWEST_ROWS:
        return call["w"], False
    if call.kernel == "linear_backward_weight" and call["dw"].shape[0] >= _FEWEST_WEIGHT_ROWS:
        return call["x"], False
    return None, False


def _packable(call: Call, matrix: Buffer, i: int, uses: Uses) -> bool:
    """Whether the panels are up to date when the call reads them."""
    if matrix.data_ptr < PLACEHOLDERS:
        return call.kernel != "linear_backward_weight"  # whatever writes to it is followed by a pack
    written = uses.writing(matrix)
    if not written:
        return True
    whole = any(touch.writes and (touch.low, touch.high) == matrix.extent for touch in uses.touches[written[0]])
    return len(written) == 1 and written[0] < i and whole


def _overlap(touch: Touch, b: Buffer) -> bool:
    low, high = b.extent
    return touch.low < high and low < touch.high
