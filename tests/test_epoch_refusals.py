"""What run_epoch refuses, it says in one sentence, and nothing is changed."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, training_step
from epoch_runs import arrays, network, training

import fastbp
from fastbp import optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"arrays": []}, ValueError, "expected arrays of equal length, got shapes []"),
        ({"arrays": [np.ones((4, 5), np.float32), np.ones((5, 3), np.float32)]}, ValueError, "arrays of equal length"),
        ({"arrays": [np.float32(1), np.float32(2)]}, ValueError, "expected arrays of equal length"),
        ({"arrays": [np.ones((0, 5), np.float32), np.ones((0, 3), np.float32)]}, ValueError, "at least one batch"),
        ({"batch_size": 0}, ValueError, "expected batch_size >= 1, got 0"),
        ({"batch_size": -3}, ValueError, "expected batch_size >= 1, got -3"),
        ({"batch_size": 2.5}, TypeError, "expected batch_size as an integer, got 2.5"),
        ({"batch_size": "10"}, TypeError, "expected batch_size as an integer, got '10'"),
        ({"batch_size": True}, TypeError, "expected batch_size as an integer, got True"),
        ({"arrays": np.ones((4, 5), np.float32)}, TypeError, "expected a list of arrays, one for each argument"),
        ({"arrays": None}, TypeError, "expected a list of arrays, one for each argument"),
        ({"batch_size": 46, "drop_last": True}, ValueError, "expected at least one batch of 46 rows, got 45 rows"),
        ({"permutation": [0, 45]}, ValueError, "expected a permutation as integers from 0 to 44, got 0 to 45"),
        ({"permutation": [0, -1]}, ValueError, "expected a permutation as integers from 0 to 44, got -1 to 0"),
        ({"permutation": [[0, 1]]}, ValueError, "in one dimension, got int64 of shape (1, 2)"),
        ({"permutation": []}, ValueError, "at least one batch of 10 rows, got 0 rows"),
        ({"permutation": [0.5, 1.0]}, ValueError, "in one dimension, got float64 of shape (2,)"),
        ({"permutation": [0, 1], "seed": 3}, ValueError, "expected a permutation or a seed, got both"),
    ],
)
@pytest.mark.parametrize("calls_before", [0, 1])
def test_refused_with_one_sentence_and_nothing_changed(options, error, message, calls_before):
    fastbp.manual_seed(5)
    step, *state = training()()
    compiled = fastbp.compile(step)
    for _ in range(calls_before):
        compiled.run_epoch(arrays(), 10)
    before = all_state(state)
    given = {"arrays": arrays(), "batch_size": 10, **options}
    with pytest.raises(error) as caught:
        compiled.run_epoch(**given)
    assert message in str(caught.value)
    assert str(caught.value).startswith("[run_epoch] ")
    assert_same(before, all_state(state))


@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize("label", [-1, 3, 100])
@pytest.mark.parametrize("at", [0, 24, 44])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_label_out_of_range_changes_nothing(calls_before, at, label, schedule):
    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters())
        halving = lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
        inner = training_step(model, optimizer, F.cross_entropy)

        def step(x, y):
            loss = inner(x, y)
            if schedule:
                halving.step()
            return loss

        return step, model, optimizer, halving

    x, y = arrays(classes=3)
    bad = y.copy()
    bad[at] = label
    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step)
    for _ in range(calls_before):
        compiled.run_epoch([x, y], 10)
    before = all_state(state)
    for _ in range(2):
        with pytest.raises(IndexError, match=str(label)):
            compiled.run_epoch([x, bad], 10)
        assert_same(before, all_state(state))
    compiled.run_epoch([x, y], 10)


def test_a_function_that_cannot_be_compiled_says_so():
    fastbp.manual_seed(5)
    step, *state = training()()
    compiled = fastbp.compile(lambda x, y: step(x, y).item())
    before = all_state(state, False)
    with pytest.raises(fastbp.CompileError, match="return the tensor and read it outside"):
        compiled.run_epoch(arrays(), 10)
    assert_same(before, all_state(state, False))
