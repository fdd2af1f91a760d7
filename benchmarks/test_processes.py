"""Many processes with several threads each, on a machine with fewer cores: at once and one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastbp.bench.timing import LEAST_ROUNDS, Timing, ratio

JOBS, THREADS = 8, 2
STEPS = {"mnist_small": 500, "mnist": 60}  # about half a second


def start(workload: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("job.py")), workload],
        env={**os.environ, "FASTBP_NUM_THREADS": str(THREADS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def expect(job: subprocess.Popen[str], word: str) -> None:
    assert job.stdout is not None
    got = job.stdout.readline().strip()
    if got != word:
        raise RuntimeError(f"a job said {got!r} instead of {word!r}")


def begin(job: subprocess.Popen[str], steps: int) -> None:
    assert job.stdin is not None
    job.stdin.write(f"{steps}\n")
    job.stdin.flush()


@pytest.mark.parametrize("workload", STEPS)
def test_processes(record: Callable[..., None], timing: Timing, quick: bool, workload: str) -> None:
    steps, count = (1, 2) if quick else (STEPS[workload], JOBS)
    with ExitStack() as stack:
        jobs = [stack.enter_context(start(workload)) for _ in range(count)]  # leaving closes stdin, which ends them
        for job in jobs:
            expect(job, "ready")

        def at_once() -> None:
            for job in jobs:
                begin(job, steps)
            for job in jobs:
                expect(job, "done")

        def in_turn() -> None:
            for job in jobs:
                begin(job, steps)
                expect(job, "done")

        times = timing._replace(rounds=min(timing.rounds, LEAST_ROUNDS + 2)).alternate(
            {"at once": at_once, "in turn": in_turn}
        )
        value = ratio(times["at once"], times["in turn"])
        line = f"{count} jobs of {THREADS} threads, {workload}: at once {value:.2f} of the time one after another"
        record("processes", line, at_once, name=workload, jobs=count, threads=THREADS, ratio=value)
