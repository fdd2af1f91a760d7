"""Compiled functions on any number of threads, and called from several of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from compiled_runs import (
    BATCHES,
    all_state,
    assert_same,
    assert_same_run,
    batch,
    perceptron,
    training_setup,
    training_step,
    with_sgd,
)
from settings import native_settings_kept

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F

# --- threads of the kernels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_any_number_of_threads(threads, rows):
    """Layers large enough to be run by all threads, and small ones."""
    with native_settings_kept():
        fastbp.set_num_threads(threads)

        def model():
            return nn.Sequential(nn.Linear(40, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 64), nn.GELU())

        calls = [batch(t, rows, 40, 64) for t in range(3)]
        assert_same_run(with_sgd(model), [*calls, batch(3, 5, 40, 64), calls[0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("width", [257, 300])
def test_gradients_of_two_batches_where_shares_have_unequal_rows(width, threads, dtype):
    """The sum of the gradients and the step after it work on the rows that each share has."""

    def setup():
        layer = nn.Linear(width, width, bias=False).to(dtype=dtype)
        optimizer = optim.SGD(layer.parameters(), lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            for part in (slice(0, 20), slice(20, 40)):
                (F.mse_loss(layer(F.tanh(layer(x[part]))), y[part]) + layer.weight.square().sum() * 0.01).backward()
            optimizer.step()

        return step, layer, optimizer

    with native_settings_kept():
        fastbp.set_num_threads(threads)
        assert_same_run(setup, [batch(t, 40, width, width, dtype) for t in range(2)], variants=1)


def test_a_changed_number_of_threads_selects_another_recording():
    with native_settings_kept():
        assert_same_run(with_sgd(), BATCHES * 2, lambda t, *state: fastbp.set_num_threads(1 + t % 2), variants=2)


# --- threads of Python ------------------------------------------------------------------------------------------------


def test_one_call_at_a_time():
    """Threads that call one compiled function: as many steps as calls."""
    steps, threads = 30, 4
    setup = training_setup(perceptron, (optim.Adam, {}))
    fastbp.manual_seed(0)
    step, *expected = setup()
    for _ in range(steps * threads):
        step(*BATCHES[0])
    fastbp.manual_seed(0)
    step, *got = setup()
    compiled, errors = fastbp.compile(step), []

    def work():
        try:
            for _ in range(steps):
                compiled(*BATCHES[0])
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert_same(all_state(expected, grads=False), all_state(got, grads=False))


def test_other_threads_go_on_while_one_records():
    going, done, wrong = threading.Event(), threading.Event(), []

    def other():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        step = training_step(model, optimizer)
        while not done.is_set():
            if not np.isfinite(step(*BATCHES[1]).item()) or model[0].weight.grad is None:
                wrong.append(model)
            going.set()

    worker = threading.Thread(target=other)
    worker.start()
    going.wait()
    try:
        for _ in range(5):
            assert_same_run(training_setup(perceptron, (optim.SGD, {"lr": 0.1})), BATCHES, variants=1)
    finally:
        done.set()
        worker.join()
    assert not wrong
