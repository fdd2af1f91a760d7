"""Buffers and arguments that a compiled function changes in place, and arguments that share memory."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import BATCHES, assert_same_run, perceptron, training_setup

import fastbp
from fastbp import optim
from fastbp.nn import functional as F


def test_a_buffer_changed_in_place():
    def setup():
        running, count = fastbp.zeros(5), fastbp.zeros((), dtype=fastbp.int64)
        table = fastbp.zeros(4, 5)

        def run(x):
            with fastbp.no_grad():
                running.mul_(0.9).add_(x.mean(0) * 0.1)
                count.add_(1)
                table[1] = running
                table[2:, 1:3] = 5.0
            return (x - running) * count, running[1:]

        return run, running, count, table

    assert_same_run(setup, [(x,) for x, _ in BATCHES], variants=1)


def test_an_argument_changed_in_place():
    def setup():
        def run(x, by):
            x.add_(by)
            return x * 2

        return (run,)

    def arguments(make):
        return lambda: (make(fastbp.arange(12, dtype=fastbp.float32).reshape(3, 4)), 2)

    makes = [lambda x: x, lambda x: x, lambda x: x.t(), lambda x: x[1:], lambda x: x[:, ::2]]
    assert_same_run(setup, [arguments(make) for make in makes])
    array = np.zeros((3, 4), np.float32)
    fastbp.compile(setup()[0])(array, 2)
    assert (array == 2).all()


def test_an_argument_changed_in_place_is_noticed():
    """By what was derived from its old values: panels of a matrix, and graphs that saved it."""
    w, x = fastbp.randn(64, 64), fastbp.randn(16, 64)
    before = [F.linear(x, w) for _ in range(3)][-1].numpy() * 2
    double = fastbp.compile(lambda w: w.mul_(2))
    double(w)
    np.testing.assert_array_equal(F.linear(x, w).numpy(), before)
    y = (fastbp.ones(64, 64, requires_grad=True) * w).sum()
    double(w)
    with pytest.raises(RuntimeError, match="was changed in place since"):
        y.backward()


@pytest.mark.parametrize("shared", [False, True])
def test_arguments_that_share_memory(shared):
    def setup():
        def run(a, b):
            a.copy_(a.mean(0))
            return b * 2

        return (run,)

    def arguments(t):
        x = fastbp.arange(6, dtype=fastbp.float32).reshape(2, 3) + t
        return (x, x) if shared else (x, fastbp.from_numpy(x.numpy()))

    assert_same_run(setup, [lambda t=t: arguments(t) for t in range(3)])


def test_an_argument_that_shares_memory_with_what_the_function_changes():
    array = np.zeros((3, 3), np.float32)
    table = fastbp.from_numpy(array)

    def run(x):
        table.copy_(fastbp.arange(9).to(fastbp.float32).reshape(3, 3).mean(0))
        return x * 2

    compiled = fastbp.compile(run)
    for argument in (table, array, table[1:]):
        array[:] = 0
        np.testing.assert_array_equal(compiled(argument).numpy()[0], [6, 8, 10])


def test_an_argument_that_is_the_target_too():
    setup = training_setup(lambda: perceptron(5, 4, 5), (optim.Adam, {}))
    assert_same_run(setup, [(x, x) for x, _ in BATCHES], variants=1)
