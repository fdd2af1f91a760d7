"""Dead calls: what writes only memory that nobody reads afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.program.calls import Call
from fastbp.program.passes.uses import Ranges


def drop_dead(calls: Sequence[Call], live: Ranges) -> list[Call]:
    """The calls that the memory `live` depends on."""
    needed: dict[int, list[tuple[int, int]]] = {}  # by storage
    kept = []
    for call in reversed(calls):
        touches = call.touches()
        if any(
            t.writes and any(t.low < high and low < t.high for low, high in (*live, *needed.get(t.storage, ())))
            for t in touches
        ):
            kept.append(call)
            for t in touches:
                if not t.writes:
                    needed.setdefault(t.storage, []).append((t.low, t.high))
    return kept[::-1]
