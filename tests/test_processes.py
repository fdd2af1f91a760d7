"""Training beside fork, pools of processes, threads and signals: never a hang, and always the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("process_scenarios.py")
HANGS = 120  # seconds; each takes one or two

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on POSIX only")


def run(scenario: str) -> None:
    """Runs a scenario on a team of two in a process of its own; ends it, and those that it started, if it hangs."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), scenario],
        env={**os.environ, "FASTBP_NUM_THREADS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=HANGS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{scenario} hangs\n{output}")
    assert process.returncode == 0, output
    assert output == ""


@pytest.mark.parametrize(
    "scenario",
    [
        "fork_often",
        "fork_before_the_first_kernel",
        "fork_in_a_fork",
        "fork_from_a_thread",
        "fork_while_another_thread_is_in_a_kernel",
        "fork_while_another_thread_draws",
    ],
)
def test_parent_and_child_go_on_after_a_fork(scenario: str) -> None:
    run(scenario)


def test_workers_of_a_pool_train_after_their_parent_has() -> None:
    run("pool_by_fork")
    run("pool_by_spawn")


def test_joblib_workers_train() -> None:
    run("joblib_workers")


def test_threads_train_at_once() -> None:
    run("threads_at_once")
    run("many_short_threads")


def test_process_ends_while_threads_work() -> None:
    run("exit_while_threads_work")
    run("exit_in_a_forked_child")


def test_interrupt_ends_a_loop_of_kernels() -> None:
    run("interrupt")
