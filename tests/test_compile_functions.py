"""What can be compiled: functions, methods, modules, and functions that call compiled ones."""

from __future__ import annotations

import gc
import weakref

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


def test_epochs_and_explanations_of_methods():
    class Trainer:
        def __init__(self, lr):
            fastbp.manual_seed(0)
            self.model = nn.Linear(5, 3)
            self.optimizer = optim.SGD(self.model.parameters(), lr=lr)

        @fastbp.compile
        def step(self, x, y):
            return training_step(self.model, self.optimizer)(x, y)

    x, y = (np.concatenate([a.numpy() for a in arrays]) for arrays in zip(*BATCHES))
    slow, fast, by_hand = Trainer(0.01), Trainer(0.1), Trainer(0.1)
    losses = [trainer.step.run_epoch([x, y], 8) for trainer in (slow, fast)]
    expected = [by_hand.step(x[i : i + 8], y[i : i + 8]).item() for i in range(0, len(x), 8)]
    assert losses[1].tolist() == expected and losses[0].tolist() != expected
    np.testing.assert_array_equal(fast.model.weight.detach().numpy(), by_hand.model.weight.detach().numpy())
    assert fast.step.explain(x[:8], y[:8]).startswith("Program of step") and fast.step.__name__ == "step"


def test_compiled_functions_inside_compiled_functions():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        forward = fastbp.compile(lambda x: model(x))
        inner = fastbp.compile(training_step(forward, optimizer), keep_grads=True)
        return (lambda x, y: inner(x, y)), model, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_what_a_program_holds_goes_with_it():
    """Without the garbage collector: memory of models that are thrown away does not wait for it."""

    def run():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        compiled = fastbp.compile(training_step(model, optimizer))
        compiled(*BATCHES[0])
        compiled.run_epoch([t.numpy() for t in BATCHES[1]], 3)
        return [weakref.ref(x) for x in (model, model[0].weight, optimizer, compiled)]

    run()
    gc.collect()
    gc.disable()
    try:
        assert [ref() for ref in run()] == [None] * 4
    finally:
        gc.enable()
