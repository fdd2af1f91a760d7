"""What can be compiled: functions, methods, modules, and functions that call compiled ones."""

from __future__ import annotations

import numpy as np
from compiled_runs import BATCHES, assert_same_run, perceptron, training_step

import fastbp
from fastbp import nn, optim


def test_the_wrapper_has_the_names_of_the_function():
    @fastbp.compile
    def double(x):
        """Twice as much."""
        return x * 2

    assert double.__name__ == "double" and double.__doc__ == "Twice as much."
    assert double(fastbp.ones(1)).item() == 2


def test_methods():
    class Scaled(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = nn.Parameter(fastbp.full((1,), by))

        @fastbp.compile
        def forward(self, x):
            return x * self.by

    two, three = Scaled(2.0), Scaled(3.0)
    for _ in range(2):
        assert two(fastbp.ones(1)).item() == 2 and three(fastbp.ones(1)).item() == 3
    model = perceptron()
    x = BATCHES[0][0]
    with fastbp.no_grad():
        np.testing.assert_array_equal(fastbp.compile(model)(x).numpy(), model(x).numpy())
        np.testing.assert_array_equal(fastbp.compile(model.forward)(x).numpy(), model(x).numpy())


def test_compiled_functions_inside_compiled_functions():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        forward = fastbp.compile(lambda x: model(x))
        inner = fastbp.compile(training_step(forward, optimizer), keep_grads=True)
        return (lambda x, y: inner(x, y)), model, optimizer

    assert_same_run(setup, BATCHES, variants=1)
