"""The default number of threads against one: every kernel and every workload, block by block in turns."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import operands
import pytest

import fastbp
from fastbp import _native
from fastbp.bench.timing import Run, Timing, ratio
from fastbp.bench.workloads import WORKLOADS, eager_step, verify

DEFAULT = fastbp.get_num_threads()
pytestmark = pytest.mark.skipif(DEFAULT == 1, reason="one thread is the default here")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    _native.set_threads(DEFAULT)


def compared(timing: Timing, call: Callable[[], Any]) -> float:
    """The time on the default number of threads as a part of that on one, in the median pair."""
    runs = {count: Run(call, functools.partial(_native.set_threads, count)) for count in (DEFAULT, 1)}
    times = timing.alternate({str(count): run for count, run in runs.items()})
    _native.set_threads(DEFAULT)
    return ratio(times[str(DEFAULT)], times["1"])


@pytest.mark.parametrize("name", operands.FACTS)
def test_kernel(record: Callable[..., None], timing: Timing, quick: bool, name: str) -> None:
    shorter = timing._replace(block=min(timing.block, 0.005), settle=min(timing.settle, 0.002))
    ratios = {}
    for label, call in itertools.islice(operands.calls(name), 2 if quick else None):
        ratios[label] = compared(shorter, call.verify().run)
    size = max(ratios, key=lambda label: ratios[label])
    line = f"{name}: at worst {ratios[size]:.2f} of one thread's time, at {size}"
    record("threads", line, call.run, name=name, threads=DEFAULT, ratios=ratios)


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload(record: Callable[..., None], timing: Timing, limit: float, name: str) -> None:
    workload = WORKLOADS[name]
    if workload.operations > limit:
        pytest.skip("too large for --quick")
    verify(eager_step(workload), workload)
    step = eager_step(workload)
    value = compared(timing, step)
    line = f"{name}, eager step: {value:.2f} of one thread's time"
    record("threads", line, step, name=f"{name} step", threads=DEFAULT, ratios={"eager": value})
