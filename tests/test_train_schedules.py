"""Schedules in fit: stepped once per epoch or per batch, or by the validation loss."""

from __future__ import annotations

import pytest
from train_runs import linear, problem

from fastbp import nn, optim, train
from fastbp.data import Batches
from fastbp.optim import lr_scheduler


class TestSchedule:
    @pytest.mark.parametrize(("schedule", "steps"), [("epoch", 3), ("batch", 9)])
    def test_steps_once_per_epoch_or_per_batch(self, schedule, steps):
        model = linear()
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        halving = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        data = Batches(*problem(), batch_size=16)
        train.fit(model, nn.MSELoss(), optimizer, data, 3, scheduler=halving, schedule=schedule)
        assert optimizer.param_groups[0]["lr"] == 0.5**steps

    def test_reduce_on_plateau_follows_the_validation_loss(self):
        seen = []

        class Watched(lr_scheduler.ReduceLROnPlateau):
            def step(self, metrics, *arguments):
                seen.append(metrics)
                super().step(metrics, *arguments)

        for validation, curve in ((Batches(*problem(seed=1)), "validation_loss"), (None, "loss")):
            model = linear()
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            data = Batches(*problem())
            scheduler = Watched(optimizer)
            seen.clear()
            history = train.fit(model, nn.MSELoss(), optimizer, data, 3, validation=validation, scheduler=scheduler)
            assert seen == history[curve]
        with pytest.raises(ValueError, match="schedule 'epoch' with ReduceLROnPlateau"):
            train.fit(model, nn.MSELoss(), optimizer, data, 3, scheduler=scheduler, schedule="batch")
