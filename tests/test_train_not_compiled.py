"""fit, evaluate and predict where steps cannot be compiled: one warning, and the same results."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from compiled_runs import assert_same
from train_runs import dropping, fitted, problem, run, weights

import fastbp
from fastbp import nn, train
from fastbp.data import Batches


class TestNotCompiled:
    """Steps that need the host run operation by operation, after one warning."""

    def assert_warned_once(self, task="fit", match="cannot be compiled", **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = fitted(True, **options)
        assert len(caught) == 1 and f"[{task}] the steps run operation by operation" in str(caught[0].message)
        assert match in str(caught[0].message)
        assert_same(fitted(False, **options), got)

    @pytest.mark.parametrize("data", [None, lambda: list(Batches(*problem(45), batch_size=10))])
    def test_a_model_that_reads_a_value(self, data):
        class Reading(nn.Sequential):
            def forward(self, x):
                y = super().forward(x)
                return y * 0.5 if y.detach().sum().item() > 0 else y

        def make():
            fastbp.manual_seed(0)
            return Reading(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))

        self.assert_warned_once(make=make, data=data, match="return the tensor and read it outside")

    def test_a_model_that_counts_its_calls(self):
        counts = []

        class Counting(nn.Sequential):
            n = 0

            def forward(self, x):
                self.n += 1
                counts.append(self.n)
                return super().forward(x)

        def make():
            fastbp.manual_seed(0)
            return Counting(nn.Linear(3, 8), nn.Linear(8, 1))

        self.assert_warned_once(make=make, match="set an attribute of a module")
        assert counts[-15:] == list(range(1, 16))  # of the run that was not compiled
        assert counts.count(15) == 2  # and of the other one

    def test_a_metric_that_returns_a_number(self):
        def number(prediction, target):
            return float((prediction - target).abs().mean().item())

        self.assert_warned_once(metrics=[number], match="values on the host")

    def test_a_metric_of_the_host_in_evaluate(self):
        data = Batches(*problem(45), batch_size=10)
        model = dropping()

        def number(prediction, target):
            return (prediction - target).abs().mean().numpy().max()

        expected = train.evaluate(model, data, None, [number], compile=False)
        with pytest.warns(UserWarning, match=r"^\[evaluate\] the steps run operation by operation") as caught:
            assert train.evaluate(model, data, None, [number]) == expected
        assert len(caught) == 1

    def test_a_model_that_reads_a_value_in_predict(self):
        class Reading(nn.Linear):
            def forward(self, x):
                return super().forward(x) * float(x.sum().item() > 0)

        model, data = Reading(3, 1), Batches(*problem(45), batch_size=10)
        expected = train.predict(model, data, compile=False)
        with pytest.warns(UserWarning, match=r"^\[predict\] the steps run operation by operation") as caught:
            np.testing.assert_array_equal(train.predict(model, data), expected)
        assert len(caught) == 1

    def test_a_label_out_of_range_is_an_error_as_it_is_by_hand(self):
        x, _ = problem(45)
        y = np.random.default_rng(1).integers(0, 4, 45)
        y[33] = 4
        model = nn.Linear(3, 4)
        before = weights(model)
        with pytest.raises(IndexError, match="4"):
            run(model, data=Batches(x, y, batch_size=10), loss=nn.CrossEntropyLoss())
        for mine, expected in zip(weights(model), before, strict=True):
            np.testing.assert_array_equal(mine, expected)

    def test_without_compiling_there_is_no_warning(self):
        class Reading(nn.Linear):
            def forward(self, x):
                return super().forward(x) * float(x.sum().item() > 0)

        fitted(False, make=lambda: Reading(3, 1))
