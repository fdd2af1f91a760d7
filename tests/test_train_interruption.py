"""Ctrl-C in fit: the finished epochs are returned. Between steps of a program: test_train_compiled.py."""

from __future__ import annotations

from train_runs import linear, problem, run

from fastbp import train
from fastbp.data import Batches


class TestInterruption:
    def test_ctrl_c_returns_the_finished_epochs(self):
        best = train.BestWeights()

        def interrupt(run):
            if run.history.epochs == 2:
                raise KeyboardInterrupt

        model = linear()
        history = run(model, epochs=9, callbacks=[best, interrupt])
        assert history.interrupted and history.epochs == 2
        assert best.epoch == 2
        assert model.training

    def test_ctrl_c_inside_an_epoch_drops_its_part(self):
        class Interrupted(Batches):
            def __iter__(self):
                for number, batch in enumerate(super().__iter__()):
                    if self.epoch == 2 and number == 1:
                        raise KeyboardInterrupt
                    yield batch

        history = run(epochs=9, data=Interrupted(*problem(), batch_size=16))
        assert history.interrupted and len(history["loss"]) == 1
