"""Results of compiled functions: their types, their memory, and tensors that leave in other ways."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from compiled_runs import BATCHES, assert_same_run, batch, perceptron

import fastbp
from fastbp import nn

Pair = namedtuple("Pair", "left right")


def test_results_keep_their_types():
    compiled = fastbp.compile(lambda x: Pair([x + 1, None], {"two": (2.5, x)}))
    for _ in range(2):
        result = compiled(fastbp.ones(2))
        assert type(result) is Pair and type(result.left) is list and type(result.right["two"]) is tuple
        assert result.left[0].tolist() == [2, 2] and result.right["two"][1].tolist() == [1, 1]


def test_results_have_no_history_and_stay_as_they_were():
    model = perceptron()
    compiled = fastbp.compile(lambda x: (model(x), model[0].weight[0]))
    x = BATCHES[0][0]
    first = compiled(x)
    kept = first[0].numpy().copy()
    second = compiled(BATCHES[1][0])
    assert not any(t.requires_grad for t in (*first, *second))
    np.testing.assert_array_equal(first[0].numpy(), kept)


def test_a_result_without_tensors():
    compiled = fastbp.compile(lambda x: np.arange(3) if x.shape[0] == 8 else None)
    np.testing.assert_array_equal(compiled(BATCHES[0][0]), np.arange(3))
    np.testing.assert_array_equal(compiled(BATCHES[0][0]), np.arange(3))
    assert compiled(batch(rows=2)[0]) is None


def test_results_that_are_inputs_or_parameters_or_views():
    def setup():
        model = nn.Linear(5, 5)

        def run(x):
            y = model(x)
            return x, x[1:, ::2], model.weight, model.bias.detach(), y, y.t(), y[0], y[:, 2], y.reshape(-1), x.t()

        return run, model

    def change(t, model):
        with fastbp.no_grad():
            model.weight.add_(t)

    assert_same_run(setup, [(x,) for x, _ in BATCHES], change, variants=1)
    model = nn.Linear(5, 5)
    compiled = fastbp.compile(lambda x: (x, model.weight, y := model(x), y.t()))
    x = BATCHES[0][0]
    for _ in range(2):
        got, weight, y, turned = compiled(x)
        assert weight is model.weight
        assert got.data_ptr() == x.data_ptr()
        assert turned.data_ptr() == y.data_ptr()


def test_a_parameter_of_one_element_is_returned_itself():
    p = nn.Parameter(fastbp.zeros(()))
    compiled = fastbp.compile(lambda: p)
    assert compiled() is p and compiled() is p


def test_a_result_that_is_a_constant_or_expanded():
    compiled = fastbp.compile(lambda x: (fastbp.ones(2, 3), fastbp.arange(4), x.sum().expand(3, 2), fastbp.zeros(())))
    for t in range(3):
        ones, numbers, total, zero = compiled(fastbp.full((4,), float(t)))
        assert ones.tolist() == [[1] * 3] * 2 and numbers.tolist() == [0, 1, 2, 3]
        assert total.tolist() == [[4.0 * t] * 2] * 3 and zero.item() == 0
        ones.fill_(7)  # a caller's tensor: the next call gives another
        numbers.fill_(7)


def test_a_tensor_that_left_the_recording_has_no_values():
    left = []
    fastbp.compile(lambda x: left.append(x * 2))(fastbp.ones(3))
    for read in (repr, np.asarray, lambda t: t.tolist(), lambda t: t[0].item(), lambda t: t.numpy()):
        with pytest.raises(RuntimeError, match="expected a tensor with values"):
            read(left[0])


def test_a_tensor_that_left_the_recording_is_refused_by_operations():
    left = []
    fastbp.compile(lambda x: left.append(x * 2))(fastbp.ones(3))
    with pytest.raises(RuntimeError):
        left[0] + 1
