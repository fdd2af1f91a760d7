"""What run_epoch returns: the results of all steps, of every kind, as they were after each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_runs import training_step
from epoch_runs import arrays, assert_equal_epochs, network, shuffled, training
from settings import numbers_of_threads

import fastbp
from fastbp import optim

threads = numbers_of_threads(1, 2, 3)


def several(kind: str) -> Callable[[], tuple[Any, ...]]:
    def setup():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        inner = training_step(model, optimizer)

        def step(x, y):
            prediction = model(x).detach()
            loss = inner(x, y)
            right = (prediction.argmax(1) == y.argmax(1)).to(fastbp.int64).sum()
            given = {
                "tuple": (loss, right, prediction.sum(0)),
                "one in a tuple": (loss,),
                "list": [loss, loss * 2],
                "dict": {"loss": loss, "right": right, "more": (prediction.amax(), [right > 2])},
                "nothing": None,
                "a view": prediction.sum(0)[1:],
                "the same twice": (loss, loss),
                "a number": (loss, 3, "words"),
            }
            return given[kind]

        return step, model, optimizer

    return setup


KINDS = ["tuple", "one in a tuple", "list", "dict", "nothing", "a view", "the same twice", "a number"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_result(kind, threads):
    assert_equal_epochs(several(kind), arrays(), 10, permutation=shuffled())


def test_a_parameter_among_the_results_is_as_it_was_after_each_step():
    def setup():
        step, model, optimizer = training()()
        return lambda x, y: (step(x, y), model[0].bias), model, optimizer

    assert_equal_epochs(setup, arrays(), 10)


def test_results_of_rows_need_whole_batches():
    model = network().eval()
    compiled = fastbp.compile(lambda x: model(x))
    x = arrays()[0]
    got = compiled.run_epoch([x], 10, drop_last=True)
    assert got.shape == (4, 10, 3)
    np.testing.assert_array_equal(got.numpy().reshape(40, 3), model(fastbp.tensor(x[:40])).detach().numpy())
    with pytest.raises(ValueError, match=r"^\[run_epoch\] expected results of one shape in all steps, got"):
        compiled.run_epoch([x], 10)


def test_results_of_another_shape_are_refused_before_any_step():
    step, model, _ = training()()
    compiled = fastbp.compile(lambda x, y: (step(x, y), model(x)))
    before = model[0].weight.tolist()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"one shape in all steps, got \(10, 3\) and \(5, 3\): return sums"):
            compiled.run_epoch(arrays(), 10)
        assert model[0].weight.tolist() == before


def test_results_stay_as_they_were():
    compiled = fastbp.compile(training()()[0])
    first = compiled.run_epoch(arrays(), 10)
    before = first.numpy().copy()
    compiled.run_epoch(arrays(), 10)
    np.testing.assert_array_equal(first.numpy(), before)
