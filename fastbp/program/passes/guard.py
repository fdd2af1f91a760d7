"""The guard: a copy of a function's first result that every share looks at before it overwrites weights.

    y = loss, …              →  y' = loss, guard(y'), y = y', …

Other calls read y' in the place of y. A run whose guard finds NaN or infinity ends there; what was written until then
is small, and is put back.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastbp._native import PLACEHOLDERS, RecordingError
from fastbp.dtypes import BY_CODE
from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call


def add_guard(calls: Sequence[Call], result: Buffer) -> tuple[list[Call], Call]:
    """The calls with a guard right after the first result is made; and the guard. New tensors must be placeholders."""
    begin, size = result.storage
    made = any(touch.writes and touch.storage == begin for call in calls for touch in call.touches(0))
    number = result.size == 1 and size == result.nbytes and BY_CODE[result.dtype].is_floating_point
    if begin < PLACEHOLDERS or not made or not number:
        raise RecordingError("a first result of one number, computed by the function")
    own, seen = result.empty_like(), result.empty_like()
    guard, last = Call("copy", (own, seen)), Call("copy", (own, result))

    def moved(b: Buffer) -> Buffer:
        return own.view(b.shape, b.strides, 0) if b.storage[0] == begin else b

    guarded: list[Call] = []
    for call in calls:
        writes = any(touch.writes and touch.storage == begin for touch in call.touches(0))
        guarded.append(call.map(moved) if any(touch.storage == begin for touch in call.touches(0)) else call)
        if writes:
            guarded = [c for c in guarded if c is not guard] + [guard]
    return [*guarded, last], guard
