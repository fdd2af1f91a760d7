"""Whole training steps, engines side by side: blocks of steps alternate, and a row is a ratio of medians."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from measure import alternate, fma_peak
from workloads import ENGINES, WORKLOADS, Workload

import fastbp


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_step(benchmark: Any, workload: Workload) -> None:
    # The losses of the first steps agree with the reference backend's, or nothing is measured.
    losses = []
    for backend in ("native", "reference"):
        with fastbp.backend(backend):
            step = ENGINES["fastbp"](workload)
            losses.append([step().item() for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)

    steps = {
        name: make(workload) for name, make in ENGINES.items() if name == "fastbp" or importlib.util.find_spec(name)
    }
    peak = fma_peak()
    medians = alternate({**steps, "peak": peak})
    fraction = workload.operations / medians["fastbp"] / (peak() / medians["peak"])
    benchmark.extra_info["fraction of the FMA peak"] = fraction
    report = [f"{workload.name}: fastbp {medians['fastbp'] * 1e6:.1f} us, {fraction:.3f} of the FMA peak"]
    for name in steps:
        benchmark.extra_info[f"{name} seconds"] = medians[name]
        if name != "fastbp":
            benchmark.extra_info[f"{name} / fastbp"] = medians[name] / medians["fastbp"]
            report.append(f"{name} {medians[name] * 1e6:.1f} us, {medians[name] / medians['fastbp']:.2f} times as long")
    print("\n" + "; ".join(report))
    benchmark.pedantic(steps["fastbp"], rounds=10, warmup_rounds=1)
