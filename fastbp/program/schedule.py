"""The order in which a program's calls run: stages with a barrier between them, shares that need none within.

A call whose rows are cut as those of the call that it depends on may follow it without a barrier: each share works on
its own rows. So forward, loss and the gradients of the inputs are one stage; the gradients of the weights, which need
all rows, and the optimizer, cut by the rows of the weights, are the next. What is small and needs only what every share
can see, such as the denominator of a loss, each share computes for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastbp import _native
from fastbp._native import PLACEHOLDERS, RecordingError
from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call, Touch
from fastbp.program.passes.uses import Ranges

# In the place of rows: one share runs the call; every share does, for itself; all do, each its part, with barriers
# around; every share does, and ends the run where the result is not finite. As csrc/program.h has them.
ALONE, EVERY, TEAM, GUARD = 0, -1, -2, -3
_WORTH_A_TEAM = 50_000  # operations
_WORTH_NO_BARRIER = 20_000  # operations that every share may repeat, or a thousandth of the program's
_SMALL = 64  # bytes of a result that every share has
_TOKEN = -1  # storage that stands for "the guard has looked"
_MOST_SAVED = 1 << 20  # bytes that may be put back after the guard has ended a run

Phases = Sequence[tuple[int, int]]  # (units, grain) of each phase of a native kernel


class Item(NamedTuple):
    """A call or pack as it is scheduled: the rows that shares are cut from, or one of the words above; the stages that
    it takes; its phases that have anything to do; and the memory that it touches."""

    step: Any
    rows: int
    stages: int
    phases: list[int]
    touches: list[Touch]


def items_of(
    steps: Sequence[Any], phases: Sequence[Phases], uses: dict[int, Buffer], live: Ranges, guard: Call | None
) -> list[Item]:
    """The items of calls and packs, with the phases of each; uses: by position, the panels that a call reads.

    What is cut by rows and overwrites memory that outlives the run waits for the guard.
    """
    threads = _native.threads()
    writers = Counter(touch.storage for step in steps for touch in step.touches(0) if touch.writes)
    total = sum(step.facts.operations(**step.named()) for step in steps if isinstance(step, Call))
    cheap = max(_WORTH_NO_BARRIER, total // 1000)
    items = []
    for i, step in enumerate(steps):
        rows, stages = _way(step, phases[i], threads)
        touches = step.touches(max(rows, 0))
        if rows == ALONE and _is_private(step, touches, cheap, writers, live):
            rows = EVERY
        if step is guard:
            rows = GUARD
            touches.append(Touch(_TOKEN, 0, 1, True, False))
        elif guard is not None and rows not in (ALONE, EVERY) and any(_outlives(t) for t in touches):
            touches.append(Touch(_TOKEN, 0, 1, False, True))
        if i in uses:
            low, high = uses[i].extent
            touches.append(Touch(uses[i].storage[0], low, high, False, False))
        busy = [phase for phase, (units, _) in enumerate(phases[i]) if units]
        items.append(Item(step, rows, stages, busy, touches))
    return items


def _way(step: Any, phases: Phases, threads: int) -> tuple[int, int]:
    if not isinstance(step, Call):
        return step.rows, 1
    rows = step.rows if len(phases) == 1 and step.rows and phases[0][0] % step.rows == 0 else 0
    if rows and (rows >= threads or phases[0][0] == rows):
        return rows, 1  # as many shares as there could be
    if threads == 1:
        return rows, 1
    worth = step.facts.operations(**step.named()) > _WORTH_A_TEAM
    return (TEAM, len(phases)) if worth and any(units > grain for units, grain in phases) else (rows, 1)


def _is_private(call: Call, touches: Sequence[Touch], cheap: int, writers: Counter[int], live: Ranges) -> bool:
    """Whether every share may have its own result: a few new numbers that nobody sees in the end.

    cheap: operations that every share may repeat.
    """
    if call.facts.lists or call.facts.operations(**call.named()) > cheap:
        return False
    for touch in touches:
        if touch.writes and (
            touch.storage < PLACEHOLDERS
            or touch.high - touch.low > _SMALL
            or writers[touch.storage] > 1
            or any(touch.low < high and low < touch.high for low, high in live)
        ):
            return False
    return True


def _outlives(touch: Touch) -> bool:
    return touch.writes and 0 <= touch.storage < PLACEHOLDERS


def written_before(items: Sequence[Item], stages: Sequence[int], guard: Call) -> list[tuple[int, int]]:
    """(address, bytes) of memory that outlives a run and is written before the guard has looked at it."""
    at = next(i for i, item in enumerate(items) if item.step is guard)
    found = {
        (touch.low, touch.high - touch.low)
        for i, item in enumerate(items)
        if stages[i] <= stages[at] and (i < at or item.rows in (ALONE, EVERY))
        for touch in item.touches
        if _outlives(touch)
    }
    if sum(size for _, size in found) > _MOST_SAVED:
        raise RecordingError("to overwrite much memory before its first result is known")
    return sorted(found)


class _Past(NamedTuple):
    last: int  # stage
    rows: int
    touch: Touch


def stages_of(items: Sequence[Item]) -> list[int]:
    """For each item the first stage that it may run in: where nothing that it depends on is unfinished."""
    stages: list[int] = []
    written: dict[int, list[_Past]] = {}
    read: dict[int, list[_Past]] = {}
    for item in items:
        stage = 0
        for touch in item.touches:
            past = written.get(touch.storage, [])
            for earlier in past + read.get(touch.storage, []) if touch.writes else past:
                if earlier.last + 1 > stage and touch.low < earlier.touch.high and earlier.touch.low < touch.high:
                    stage = max(stage, earlier.last + _barriers(earlier, touch, item.rows))
        for touch in item.touches:
            place = written if touch.writes else read
            place.setdefault(touch.storage, []).append(_Past(stage + item.stages - 1, item.rows, touch))
        stages.append(stage)
    return stages


def _barriers(earlier: _Past, touch: Touch, rows: int) -> int:
    """1 where a barrier must stand between two calls that touch the same memory, 0 where their order is enough."""
    first = earlier.touch
    if earlier.rows in (EVERY, GUARD) and first.writes:
        return 0  # each share has its own
    if earlier.rows != rows or rows == TEAM:
        return 1
    alike = first.low == touch.low and first.high == touch.high and first.cut and touch.cut
    return 0 if rows in (ALONE, EVERY) or alike else 1


def repeated(items: Sequence[Item], stages: Sequence[int]) -> list[Item]:
    """The items, where one that every share runs for itself saves no barrier given to one share alone.

    It saves one when a call that is cut reads its result in the same stage.
    """
    result = []
    for i, (item, stage) in enumerate(zip(items, stages)):
        if item.rows == EVERY:
            mine = {touch.storage for touch in item.touches if touch.writes}
            readers = [
                other.rows
                for other, its in zip(items[i + 1 :], stages[i + 1 :])
                if its == stage and any(touch.storage in mine for touch in other.touches)
            ]
            if all(rows == ALONE for rows in readers):
                item = item._replace(rows=ALONE)
        result.append(item)
    return result
