"""How things are timed: blocks of calls take turns, and ratios are taken between blocks of the same round.

Clock rates and neighbours change what a machine gives by as much as a factor of two within seconds, so that a time
alone says little. What is compared runs in alternation; a ratio or a fraction is computed in every round, and its
median over the rounds is the result.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

LEAST_ROUNDS = 3  # of a run that is slower than its budget allows
Times = Mapping[str, Sequence[float]]  # seconds a call, one number a round


class Run(NamedTuple):
    """Something to be timed, and what must happen, untimed, before each of its blocks."""

    call: Callable[[], Any]
    before: Callable[[], Any] = lambda: None


class Timing(NamedTuple):
    """How long to measure.

    rounds: every run has one block in each; the median needs many.
    block: seconds that a block lasts, at least; calls are repeated to fill it.
    settle: seconds of untimed calls ahead of a block, in which caches fill and threads of the run before stop spinning.
    budget: seconds for all blocks of one run; a slower run takes part in the first rounds only, in at least 3.
    """

    rounds: int = 21
    block: float = 0.02
    settle: float = 0.003
    budget: float = 10.0

    def alternate(self, runs: Mapping[str, Run | Callable[[], Any]]) -> dict[str, list[float]]:
        """Seconds a call of every run, by round. Neighbours in `runs` are neighbours in time; every second round goes
        backwards, so that none is always the first."""
        all_runs = {name: run if isinstance(run, Run) else Run(run) for name, run in runs.items()}
        counts = {name: self._calls(run) for name, run in all_runs.items()}
        times: dict[str, list[float]] = {name: [] for name in all_runs}
        names = list(all_runs)
        gc.collect()
        for index in range(self.rounds):
            for name in names if index % 2 == 0 else reversed(names):
                if index < LEAST_ROUNDS or sum(times[name]) * counts[name] < self.budget:
                    times[name].append(self._block(all_runs[name], counts[name]))
        return times

    def _calls(self, run: Run) -> int:
        """How many calls fill a block."""
        run.before()
        run.call()
        count = 1
        while (taken := _seconds(run.call, count)) < self.block and count < 1_000_000:
            count = max(count + 1, min(8 * count, int(count * self.block / max(taken, 1e-9)) + 1))
        return count

    def _block(self, run: Run, count: int) -> float:
        run.before()
        if count > 1:  # a call as long as a block needs no settling, and would double its time
            end = time.perf_counter() + self.settle
            while time.perf_counter() < end:
                run.call()
        return _seconds(run.call, count) / count


QUICK = Timing(rounds=1, block=0.0, settle=0.0, budget=0.0)  # to see that everything runs; its numbers mean nothing


def _seconds(call: Callable[[], Any], count: int) -> float:
    collecting = gc.isenabled()
    gc.disable()  # a collection would hit one run of many; it looks at the objects of all of them
    try:
        start = time.perf_counter()
        for _ in repeat(None, count):
            call()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def seconds(times: Sequence[float]) -> float:
    """The median time of a call."""
    return statistics.median(times)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over the rounds of how many times as long `over` takes; only rounds that both took part in count."""
    return statistics.median(a / b for a, b in zip(over, under))


def fraction(times: Sequence[float], work: float, peaks: Sequence[tuple[Sequence[float], float]]) -> float:
    """The median over the rounds of the rate work/time, as a part of the best of the peaks' rates in that round.

    peaks: times and work of runs that were in the same rounds.
    """
    best = [max(peak_work / t for t, peak_work in zip(at, (w for _, w in peaks))) for at in zip(*(t for t, _ in peaks))]
    return statistics.median(work / t / peak for t, peak in zip(times, best))
