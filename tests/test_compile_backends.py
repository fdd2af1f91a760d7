"""Compiled functions on other backends, which are chosen outside."""

from __future__ import annotations

import pytest
from compiled_runs import (
    BATCHES,
    RULES,
    all_state,
    assert_same,
    assert_same_run,
    count_variants,
    labelled,
    perceptron,
    training_setup,
)

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F


@pytest.mark.parametrize("context", [lambda: fastbp.backend("reference"), fastbp.check])
@pytest.mark.parametrize("rule", ["nesterov", "amsgrad", "rmsprop centered", "adagrad"])
def test_other_backends(context, rule):
    kind, options = RULES[rule]

    def setup():
        model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3))
        optimizer = kind(model.parameters(), **options)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            return loss, norm

        return step, model, optimizer

    with context():
        assert_same_run(setup, [labelled(t) for t in range(3)])


def test_one_recording_serves_all_backends():
    setup = training_setup(perceptron, (optim.Adam, {}))
    fastbp.manual_seed(0)
    step, *state = setup()
    compiled = fastbp.compile(step)
    compiled(*BATCHES[0])
    with fastbp.backend("reference"):
        compiled(*BATCHES[1])
    with fastbp.check():
        compiled(*BATCHES[2])
    assert count_variants(compiled) == 1
    got = all_state(state, grads=False)
    fastbp.manual_seed(0)
    step, *state = setup()
    step(*BATCHES[0])
    with fastbp.backend("reference"):
        step(*BATCHES[1])
    step(*BATCHES[2])
    assert_same(all_state(state, grads=False), got)


def test_a_backend_is_chosen_outside():
    def run(x):
        with fastbp.backend("reference"):
            return x * 2

    with pytest.raises(RuntimeError, match="chosen outside of a compiled function"):
        fastbp.compile(run)(fastbp.ones(2))
