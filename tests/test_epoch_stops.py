"""Epochs that stop on the way: the steps before a loss that is not finite, or before Ctrl-C, stand."""

from __future__ import annotations

import os
import signal
import threading as threads_of_python

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, training_step
from epoch_runs import SCHEDULES, arrays, by_hand, scheduled, training
from settings import numbers_of_threads

import fastbp
from fastbp import nn, optim
from fastbp.optim import lr_scheduler

threads = numbers_of_threads(1, 2, 3)


@pytest.mark.parametrize("name", [None, "step", "one cycle"])
@pytest.mark.parametrize("bad", [0, 1, 3, 8, 9])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_steps_before_a_loss_that_is_not_finite_stand(calls_before, bad, name, threads):
    """45 rows are nine batches of 5 without the tenth of 2."""
    x, y = arrays(47)
    spoiled = x.copy()
    spoiled[5 * bad + 1] = np.nan
    setup = training("adam") if name is None else scheduled(SCHEDULES[name])
    fastbp.manual_seed(5)
    step, *state = setup()
    for _ in range(calls_before):
        by_hand(step, [x, y], 5)
    by_hand(step, [x[: 5 * bad], y[: 5 * bad]], 5)
    expected = all_state(state, False)

    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step, require_finite=True)
    for _ in range(calls_before):
        compiled.run_epoch([x, y], 5)
    with pytest.raises(FloatingPointError, match=rf"finite first result, got -?nan in step {bad}$"):
        compiled.run_epoch([spoiled, y], 5)
    assert_same(expected, all_state(state, False))
    compiled.run_epoch([x, y], 5)


@pytest.mark.parametrize("with_schedule", [False, True])
def test_ctrl_c_leaves_the_steps_before_it(with_schedule):
    rows = 400_000 if not with_schedule else 100_000

    def setup():
        model = nn.Linear(2, 1)
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        schedule = lr_scheduler.ExponentialLR(optimizer, 0.99999)
        inner = training_step(model, optimizer)

        def step(x, y):
            loss = inner(x, y)
            if with_schedule:
                schedule.step()
            return loss

        return step, model, optimizer, schedule

    rng = np.random.default_rng(0)
    data = [rng.standard_normal((rows, 2)).astype(np.float32), rng.standard_normal((rows, 1)).astype(np.float32)]
    fastbp.manual_seed(5)
    step, *state = setup()
    cells = state[1]._cohorts[0].cells
    compiled = fastbp.compile(step)
    over = threads_of_python.Event()

    def interrupt():
        while cells[0] < 2000 and not over.wait(0.001):
            pass
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    helper = threads_of_python.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled.run_epoch(data, 1)
    finally:
        over.set()
        helper.join()
        signal.signal(signal.SIGINT, before)
    done = int(cells[0])
    assert 0 < done < rows
    after = all_state(state, False)
    compiled.run_epoch([a[done : done + 10] for a in data], 1)
    further = all_state(state, False)

    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step)
    compiled.run_epoch([a[:done] for a in data], 1)
    assert_same(all_state(state, False), after)
    compiled.run_epoch([a[done : done + 10] for a in data], 1)
    assert_same(all_state(state, False), further)


def test_ctrl_c_while_schedules_are_stepped():
    pressed = []

    def factor(t):
        if t == 20 and not pressed:
            pressed.append(t)
            raise KeyboardInterrupt
        return 1 / (1 + t)

    setup = scheduled(lambda optimizer: lr_scheduler.LambdaLR(optimizer, factor), lr=0.1)
    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step)
    with pytest.raises(KeyboardInterrupt):
        compiled.run_epoch(arrays(), 1)
    done = int(state[1]._cohorts[0].cells[0])
    assert done == state[2].last_epoch <= 20
    got = all_state(state, False)
    fastbp.manual_seed(5)
    step, *state = setup()
    by_hand(step, [a[:done] for a in arrays()], 1)
    assert_same(all_state(state, False), got)
