"""Random numbers in compiled functions are those that are drawn without compiling."""

from __future__ import annotations

from compiled_runs import BATCHES, assert_same_run, with_sgd

import fastbp
from fastbp import nn


def test_dropout_draws_the_same_numbers_and_stops_in_eval_mode():
    def model():
        return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 3), nn.Dropout(0.1))

    def toggle(t, model, optimizer):
        model.train(t % 3 != 1)

    assert_same_run(with_sgd(model), [*BATCHES, *BATCHES], toggle, variants=2)


def test_random_tensors_and_their_generator():
    own = fastbp.Generator(5)

    def setup():
        own.manual_seed(5)

        def draw(x):
            noise = fastbp.randn(8, 5) + fastbp.rand(5, generator=own) + fastbp.randn_like(x)
            chosen = fastbp.bernoulli(fastbp.sigmoid(x)), fastbp.randint(3, 9, (4,)), fastbp.randperm(6)
            return x + noise, x[fastbp.randperm(8)], *chosen

        return (draw,)

    def reseed(t):
        if t == 2:
            fastbp.manual_seed(99)

    assert_same_run(setup, [(x,) for x, _ in BATCHES], reseed, variants=1)
    assert own.get_state() == (5, 4)
