"""fit, evaluate and predict compiled: they leave what they leave without, to the bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from compiled_runs import all_state, assert_same
from settings import native_settings_kept
from train_runs import OPTIMIZERS, SCHEDULES, dropping, fitted, problem, run, weighted_loss

import fastbp
from fastbp import nn, optim, train
from fastbp.data import Batches
from fastbp.optim import lr_scheduler


class TestCompiled:
    """What fit leaves does not depend on whether its steps are programs."""

    @pytest.fixture(autouse=True, params=[1, 2])
    def threads(self, request):
        with native_settings_kept():
            fastbp.set_num_threads(request.param)
            yield

    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_weights_and_curves_are_equal(self, optimizer, schedule):
        options = {"optimizer": optimizer, "schedule": schedule}
        options["metrics"] = [train.mean_squared_error, train.mean_absolute_error]
        options["validation"] = Batches(*problem(13, seed=1), batch_size=5)
        assert_same(fitted(False, **options), fitted(True, **options))

    @pytest.mark.parametrize(
        "batches",
        [
            {"batch_size": 10},
            {"batch_size": 10, "shuffle": True, "seed": 9},
            {"batch_size": 10, "shuffle": True, "drop_last": True},
            {"batch_size": 45, "shuffle": True},
            {"batch_size": 100},
            {"batch_size": 1},
        ],
        ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
    )
    @pytest.mark.parametrize("weights", [False, True])
    def test_any_batches(self, batches, weights):
        weight = np.random.default_rng(5).random(45).astype(np.float32)

        def data():
            return Batches(*problem(45), *([weight] if weights else []), **batches)

        options = {"data": data, "metrics": {"error": train.mean_absolute_error}}
        assert_same(fitted(False, **options), fitted(True, **options))

    @pytest.mark.parametrize("kind", ["list", "transform", "float64", "small integers", "memory-mapped"])
    def test_any_data(self, kind, tmp_path):
        x, y = problem(45)

        def data():
            if kind == "list":  # not arrays whose rows a program could take itself
                return list(Batches(x, y, batch_size=10))
            if kind == "transform":
                return Batches(x, y, batch_size=10, transform=lambda a, b: (a * 2, b))
            if kind == "small integers":  # of which each batch becomes int64
                return Batches((x * 10).astype(np.int8), y, batch_size=10)
            if kind == "memory-mapped":
                np.save(tmp_path / "x.npy", x)
                return Batches(np.load(tmp_path / "x.npy", mmap_mode="r"), y, batch_size=10, shuffle=True)
            return Batches(x.astype(np.float64), y.astype(np.float64), batch_size=10, shuffle=True)

        def make():
            model = dropping()
            return model.to(dtype=fastbp.float64) if kind == "float64" else model

        def loss(prediction, target):
            return weighted_loss(prediction, target)

        if kind == "small integers":
            integers = make

            class Cast(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.inner = integers()

                def forward(self, x):
                    return self.inner(x.to(fastbp.float32))

            make = Cast
        options = {"data": data, "make": make, "loss": loss}
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_classes_with_accuracy(self):
        x, _ = problem(45)
        y = np.random.default_rng(1).integers(0, 4, 45)

        def make():
            fastbp.manual_seed(0)
            return nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 4))

        options = {
            "make": make,
            "data": lambda: Batches(x, y, batch_size=8, shuffle=True),
            "loss": nn.CrossEntropyLoss(),
            "metrics": [train.accuracy],
            "validation": Batches(x[:20], y[:20], batch_size=7),
            "optimizer": "adam",
        }
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_batches_of_many_rows(self):
        options = {"data": lambda: Batches(*problem(2500), batch_size=1100, shuffle=True), "optimizer": "adam"}
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_callbacks_see_and_may_change_the_model_between_epochs(self):
        def freeze(run):
            if run.history.epochs == 2:
                run.model[0].weight.requires_grad = False
            with fastbp.no_grad():
                run.model[3].weight.mul_(0.5)

        options = {"epochs": 4, "callbacks": [freeze, train.BestWeights("loss")]}
        assert_same(fitted(False, **options), fitted(True, **options))

    def test_evaluate_and_predict(self):
        x, y = problem(45)
        model = dropping()
        for batch_size in (1, 10, 45):
            data = Batches(x, y, batch_size=batch_size)
            for loss in (None, weighted_loss):
                measured = [
                    train.evaluate(model, data, loss, [train.mean_absolute_error], compile=compile)
                    for compile in (False, True)
                ]
                assert measured[0] == measured[1] and len(measured[0]) == 1 + (loss is not None)
            outputs = [train.predict(model, data, compile=compile) for compile in (False, True)]
            assert outputs[0].tobytes() == outputs[1].tobytes() and outputs[0].shape == (45, 1)
            assert model.training

    def test_evaluate_with_sample_weights_of_zero(self):
        x, y = problem(20)
        data = Batches(x, y, np.zeros(20, np.float32), batch_size=5)
        for compile in (False, True):
            assert math.isnan(train.evaluate(dropping(), data, weighted_loss, compile=compile)["loss"])

    def test_a_loss_that_is_not_finite_in_a_later_epoch(self):
        """The weights are those after the step before it."""

        class Spoiled(Batches):
            def next_order(self):
                if self.epoch == 1:
                    self.arrays[1][25] = np.nan
                return super().next_order()

        for kind in (Batches, Spoiled):
            states = []
            for compile in (False, True):
                model = dropping()
                rule = optim.Adam(model.parameters(), lr=0.01)
                schedule = lr_scheduler.ExponentialLR(rule, 0.9)
                data = kind(*problem(45), batch_size=10)

                def spoil(run, data=data, kind=kind):
                    if kind is Batches:
                        data.arrays[1][25] = np.nan

                with pytest.raises(FloatingPointError, match=r"got -?nan in epoch 2, batch 3: lower the learning rate"):
                    train.fit(
                        model,
                        weighted_loss,
                        rule,
                        data,
                        3,
                        scheduler=schedule,
                        schedule="batch",
                        callbacks=[spoil],
                        compile=compile,
                    )
                assert schedule.last_epoch == 7  # five steps of the first epoch, two of the second
                states.append([("step", rule._cohorts[0].cells[0]), *all_state((model, rule, schedule), False)])
            random = [state.pop() for state in states]  # the step by hand has drawn its dropout
            assert random[0][0] == random[1][0] == "random state"
            assert_same(*states)

    def test_the_bar_counts_all_steps(self, capsys):
        for compile in (False, True):
            run(epochs=2, progress=True, compile=compile, data=Batches(*problem(45), batch_size=2))
            shown = capsys.readouterr().err
            assert "46/46" in shown and "epoch 2/2" in shown

    def test_ctrl_c_between_steps_of_a_program(self):
        """A schedule interrupts in the middle of the third epoch: the curves of the finished ones are returned."""
        pressed = []

        def press(epoch):
            if epoch == 25 and not pressed:
                pressed.append(epoch)
                raise KeyboardInterrupt
            return 1.0

        model = dropping()
        rule = optim.Adam(model.parameters(), lr=0.01)
        schedule = lr_scheduler.LambdaLR(rule, press)
        history = train.fit(
            model,
            weighted_loss,
            rule,
            Batches(*problem(45), batch_size=5),
            9,
            scheduler=schedule,
            schedule="batch",
        )
        assert history.interrupted and history.epochs == 2
        assert int(rule._cohorts[0].cells[0]) == schedule.last_epoch <= 25
