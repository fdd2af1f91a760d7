"""Whole training steps, engines side by side, each verified by its first losses."""

from __future__ import annotations

import functools
from collections.abc import Callable

import engines
import pytest

from fastbp.bench.machine import fma_peak
from fastbp.bench.timing import Timing, fraction, ratio, seconds
from fastbp.bench.workloads import WORKLOADS, verify


@pytest.mark.parametrize("name", WORKLOADS)
def test_step(record: Callable[..., None], timing: Timing, limit: float, name: str) -> None:
    workload = WORKLOADS[name]
    if workload.operations > limit:
        pytest.skip("too large for --quick")
    steps, absent = engines.present(
        {engine: functools.partial(make, workload) for engine, make in engines.STEPS.items()}
    )
    for engine, step in steps.items():
        try:
            verify(step, workload)
        except ArithmeticError as error:
            raise ArithmeticError(f"{engine}: {error}") from error

    peak = fma_peak()
    times = timing.alternate({"peak": peak.call, **steps})
    ours = "fastbp compiled"
    fractions = {engine: fraction(times[engine], workload.operations, [(times["peak"], peak.work)]) for engine in steps}
    ratios = {engine: ratio(times[engine], times[ours]) for engine in steps if engine != ours}
    line = f"{name}: {ours} {seconds(times[ours]) * 1e6:.1f} µs, {fractions[ours]:.3f} of the FMA peak" + "".join(
        f", {engine} {value:.2f} times as long" for engine, value in ratios.items()
    )
    record(
        "steps", line, steps[ours],
        name=name, workload=workload._asdict(), ours=ours, seconds={e: seconds(times[e]) for e in steps},
        fractions=fractions, ratios=ratios, absent=absent,
    )  # fmt: skip
