"""Callbacks of fit: when they are called, early stopping, and the best weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from train_runs import linear, problem, run, weights

from fastbp import train
from fastbp.data import Batches


def scripted(values: list[float]):
    """A metric that returns the given values, one per epoch of one batch: numbers, which cannot be compiled."""
    values = iter(values)
    return {"score": lambda prediction, target: next(values)}


ONE_BATCH = {"batch_size": 40}


class TestCallbacks:
    def test_hooks_run_around_the_run_and_after_each_epoch(self):
        calls = []

        class Watch(train.Callback):
            def start(self, run):
                calls.append("start")

            def epoch_end(self, run):
                calls.append(run.history.epochs)

            def end(self, run):
                calls.append("end")

        run(epochs=2, callbacks=[Watch(), lambda run: calls.append(run.history["loss"][-1])])
        assert [call for call in calls if not isinstance(call, float)] == ["start", 1, 2, "end"]
        assert len(calls) == 6

    @pytest.mark.parametrize(
        ("mode", "values"),
        [("min", [3, 2, 2, math.nan, 2.5, 0]), ("max", [3, 4, 4, math.nan, 1, 9])],
    )
    def test_early_stopping_waits_for_patience(self, mode, values):
        stopping = train.EarlyStopping("score", patience=3, mode=mode)
        data = Batches(*problem(), **ONE_BATCH)
        history = run(epochs=6, data=data, metrics=scripted(values), callbacks=[stopping], compile=False)
        assert history.epochs == 5
        assert history.stop_reason == "score has not improved for 3 epochs"

    def test_early_stopping_counts_only_changes_above_min_delta(self):
        stopping = train.EarlyStopping("score", patience=2, min_delta=0.5)
        data = Batches(*problem(), **ONE_BATCH)
        history = run(
            epochs=9,
            data=data,
            metrics=scripted([5, 4.8, 4.4, 4.2, 4.1, 0]),
            callbacks=[stopping],
            compile=False,
        )
        assert history.epochs == 5

    def test_best_weights_are_put_back(self):
        kept = []
        model = linear()
        best = train.BestWeights("score", mode="max")
        callbacks = [best, lambda run: kept.append(weights(run.model))]
        data = Batches(*problem(), **ONE_BATCH)
        run(model, epochs=4, data=data, metrics=scripted([1, 5, 2, 3]), callbacks=callbacks, compile=False)
        assert best.epoch == 2
        for mine, expected, last in zip(weights(model), kept[1], kept[3], strict=True):
            np.testing.assert_array_equal(mine, expected)
            assert not np.array_equal(mine, last)

    def test_validation_loss_is_followed_where_there_is_one(self):
        best = train.BestWeights()
        history = run(epochs=3, validation=Batches(*problem(seed=5)), callbacks=[best])
        assert best.epoch == 1 + int(np.argmin(history["validation_loss"]))

    def test_an_unknown_curve_is_named(self):
        with pytest.raises(KeyError, match="expected one of loss, got 'accuracy'"):
            run(callbacks=[train.EarlyStopping("accuracy")])

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="patience >= 1, got 0"):
            train.EarlyStopping(patience=0)
        with pytest.raises(ValueError, match="mode 'min' or 'max', got 'best'"):
            train.BestWeights(mode="best")
