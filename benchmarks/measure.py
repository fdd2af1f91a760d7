"""How things are timed: medians of alternating runs, and the machine's own limits measured in the same process."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastbp
from fastbp import _native


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Time of one call, from a block of `repeats` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def repeats_for(run: Callable[[], Any], block: float = 0.02) -> int:
    """How many calls make a block of about `block` seconds; warms up on the way."""
    run()
    count = 1
    while (taken := seconds(run, count)) * count < block and count < 1_000_000:
        count = max(count + 1, min(count * 4, int(block / max(taken, 1e-9)) + 1))
    return count


def alternate(runs: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """Median seconds a call of each run; blocks of all of them take turns, so that drift hits all alike."""
    counts = {name: repeats_for(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, counts[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def fma_peak(dtype: str = "float32") -> Callable[[], int]:
    """A run of fused multiply-adds on registers on all threads; it returns the operations that it did."""
    sink = _native.from_array(np.zeros(_native.threads(), dtype))
    return lambda: _native.fma_loop(200_000, sink)


def header() -> dict[str, str]:
    """Versions and machine, for the head of every result."""
    facts = {**fastbp.info(), "numpy": np.__version__, "cpu": _cpu_name()}
    for name in ("torch", "jax"):
        try:
            facts[name] = __import__(name).__version__
        except ImportError:
            facts[name] = "not installed"
    return facts


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
