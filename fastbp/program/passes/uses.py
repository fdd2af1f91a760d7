"""Which calls touch which memory: what every pass asks."""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call, Touch

Ranges = Sequence[tuple[int, int]]  # of addresses, [low, high)


class Uses:
    """The touches of a list of calls, and the memory that is looked at after the last of them."""

    def __init__(self, calls: Sequence[Call], live: Ranges) -> None:
        self.touches = [call.touches() for call in calls]
        self.live = live
        self.by_storage: dict[int, list[tuple[int, Touch]]] = {}
        for i, touches in enumerate(self.touches):
            for touch in touches:
                self.by_storage.setdefault(touch.storage, []).append((i, touch))

    def of(self, b: Buffer, begin: int = 0, end: int | None = None) -> list[int]:
        """The calls from `begin` to before `end` that touch the memory of a buffer."""
        return self._touching(b, begin, end, False)

    def writing(self, b: Buffer, begin: int = 0, end: int | None = None) -> list[int]:
        """Those of them that write there."""
        return self._touching(b, begin, end, True)

    def outlives(self, b: Buffer) -> bool:
        """Whether the memory is looked at after the last call."""
        low, high = b.extent
        return any(low < end and begin < high for begin, end in self.live)

    def _touching(self, b: Buffer, begin: int, end: int | None, only_writes: bool) -> list[int]:
        low, high = b.extent
        found: list[int] = []
        for i, touch in self.by_storage.get(b.storage[0], ()):
            if i < begin or (end is not None and i >= end) or (only_writes and not touch.writes):
                continue
            if touch.low < high and low < touch.high and (not found or found[-1] != i):
                found.append(i)
        return found


def same(a: Buffer | None, b: Buffer | None) -> bool:
    """Whether two buffers are the same elements in the same shape."""
    if a is None or b is None:
        return a is b
    return a.data_ptr == b.data_ptr and a.same_kind(b) and a.contiguous and b.contiguous
