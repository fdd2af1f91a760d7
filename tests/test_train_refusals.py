"""What fit, evaluate and predict refuse, each with one sentence."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from train_runs import linear, problem, run, weights

import fastbp
from fastbp import nn, train
from fastbp.data import Batches


class TestRefusals:
    def test_a_loss_that_is_not_finite_takes_no_step(self):
        x, y = problem()
        y[20] = np.nan
        model = linear()
        before = weights(model)
        with pytest.raises(FloatingPointError, match="finite loss, got nan in epoch 1, batch 1"):
            run(model, data=Batches(x, y, batch_size=40))
        for mine, expected in zip(weights(model), before, strict=True):
            np.testing.assert_array_equal(mine, expected)
        with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
            run(model, data=Batches(x, y, batch_size=20))

    @pytest.mark.parametrize("compile", [False, True])
    def test_a_loss_that_is_not_finite_leaves_running_statistics_alone(self, compile):
        x, y = problem()
        x[20] = np.nan
        fastbp.manual_seed(0)
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
        for batch in (x[:10], x[10:20]):
            model(fastbp.tensor(batch))
        expected = weights(model)
        with pytest.raises(FloatingPointError, match="epoch 1, batch 1"):
            run(model, data=Batches(x[16:], y[16:], batch_size=10), compile=compile)
        for mine, before in zip(weights(model), expected, strict=True):
            np.testing.assert_array_equal(mine, before)

    def test_a_diverging_run_stops(self):
        with pytest.raises(FloatingPointError, match="lower the learning rate"):
            run(epochs=1000, lr=1e6)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"epochs": 0}, ValueError, "epochs >= 1, got 0"),
            ({"epochs": 1.5}, TypeError, r"\[fit\] expected epochs as an integer, got 1.5"),
            ({"epochs": "a"}, TypeError, r"\[fit\] expected epochs as an integer, got 'a'"),
            ({"callbacks": [3]}, TypeError, r"\[fit\] expected callbacks as Callback objects or functions .*, got 3"),
            ({"callbacks": 3}, TypeError, r"\[fit\] expected callbacks as a sequence, got 3"),
            ({"metrics": [3]}, TypeError, r"\[fit\] expected metrics as functions of \(prediction, y\), got 3"),
            ({"metrics": {"three": 3}}, TypeError, r"\[fit\] expected metrics as functions .*, got 3"),
            ({"metrics": 3}, TypeError, r"\[fit\] expected metrics as a sequence, got 3"),
            ({"metrics": [partial(train.accuracy)]}, TypeError, r"\[fit\] expected metrics by name"),
            ({"schedule": "step"}, ValueError, "schedule 'epoch' or 'batch', got 'step'"),
            ({"data": []}, ValueError, "at least one batch, got none"),
            ({"validation": []}, ValueError, "at least one batch, got none"),
            ({"data": iter([])}, TypeError, "data that can be iterated in every epoch"),
            ({"data": [(1,)]}, ValueError, r"batches \(x, y\) or \(x, y, sample_weight\), got 1 parts"),
            ({"data": [3]}, ValueError, "got int"),
            ({"metrics": {"loss": train.accuracy}}, ValueError, "names of their own"),
            ({"metrics": [train.accuracy, train.accuracy]}, ValueError, "names of their own"),
            ({"loss": lambda prediction, y: None}, TypeError, "expected a loss as a tensor, got NoneType"),
            ({"loss": lambda prediction, y: prediction - y}, ValueError, r"a loss of one number, got shape \(16, 1\)"),
        ],
    )
    def test_refused_with_one_sentence(self, options, error, message):
        with pytest.raises(error, match=message):
            run(**options)

    @pytest.mark.parametrize("name", ["epochs", "callbacks", "metrics"])
    def test_wrong_arguments_are_refused_before_any_work(self, name):
        model = linear()
        before = weights(model)

        class Untouched:
            def __iter__(self):
                raise AssertionError("no batch is to be taken")

        with pytest.raises(TypeError, match=f"expected {name}"):
            run(model, data=Untouched(), **{name: "a"})
        for mine, expected in zip(weights(model), before, strict=True):
            np.testing.assert_array_equal(mine, expected)

    @pytest.mark.parametrize("compile", [False, True])
    @pytest.mark.parametrize(("value", "got"), [("high", "'high'"), ("1", "'1'"), (None, "None")])
    def test_a_metric_that_returns_no_number_is_named(self, value, got, compile):
        def rating(prediction, y):
            return value

        with pytest.raises(TypeError, match=rf"\[fit\] expected the metric 'rating' to return one number, got {got}"):
            run(metrics=[rating], compile=compile)

    @pytest.mark.parametrize("compile", [False, True])
    def test_a_metric_that_returns_many_numbers_is_named(self, compile):
        def errors(prediction, y):
            return prediction - y

        with pytest.raises(TypeError, match=r"\[fit\] expected the metric 'errors' .* one number, got shape \(16, 1\)"):
            run(metrics=[errors], compile=compile)

    def test_evaluate_and_predict_need_data(self):
        for call in (train.evaluate, train.predict):
            with pytest.raises(ValueError, match="at least one batch, got none"):
                call(linear(), [])
