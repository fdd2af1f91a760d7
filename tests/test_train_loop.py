"""The loop of fit: it equals the loop by hand and learns; evaluate and predict measure what it made."""

from __future__ import annotations

import math

import numpy as np
import pytest
from train_runs import linear, problem, run, weights

import fastbp
from fastbp import nn, optim, train
from fastbp.data import Batches, load_digits


class TestLoop:
    def test_equals_the_loop_by_hand_to_the_bit(self):
        by_fit, by_hand = linear(), linear()
        history = run(by_fit, epochs=4, data=Batches(*problem(), batch_size=16, shuffle=True, seed=3))
        batches = Batches(*problem(), batch_size=16, shuffle=True, seed=3)
        optimizer, loss = optim.SGD(by_hand.parameters(), lr=0.1), nn.MSELoss()
        curve = []
        for _ in range(4):
            total = 0.0
            for x, y in batches:
                optimizer.zero_grad()
                value = loss(by_hand(x), y)
                value.backward()
                optimizer.step()
                total += len(y) * value.item()
            curve.append(total / 40)
        for mine, expected in zip(weights(by_fit), weights(by_hand), strict=True):
            np.testing.assert_array_equal(mine, expected)
        assert history["loss"] == curve
        assert history.epochs == 4 and not history.interrupted

    def test_learns_the_digits(self):
        fastbp.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        data = Batches(*load_digits("train"), batch_size=64, shuffle=True)
        test = Batches(*load_digits("test"), batch_size=360)
        loss = nn.CrossEntropyLoss()
        history = train.fit(model, loss, optimizer, data, 5, validation=test, metrics=[train.accuracy])
        assert set(history.curves) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
        assert all(len(curve) == 5 for curve in history.curves.values())
        assert history["validation_accuracy"][-1] > 0.9
        measured = train.evaluate(model, test, loss, [train.accuracy])
        assert measured == {name: history[f"validation_{name}"][-1] for name in ("loss", "accuracy")}

    def test_validation_runs_in_eval_mode_without_gradients(self):
        seen = []

        class Watched(nn.Sequential):
            def forward(self, x):
                y = super().forward(x)
                seen.append((self.training, y.requires_grad))
                return y

        model = Watched(nn.Linear(3, 1))
        model.eval()
        run(model, epochs=1, data=Batches(*problem(), batch_size=40), validation=Batches(*problem(), batch_size=40))
        assert seen == [(True, True), (False, False)]
        assert not model.training
        model.train()
        train.evaluate(model, Batches(*problem()), nn.MSELoss())
        assert model.training

    def test_sample_weights_reach_the_loss_and_the_means(self):
        x, y = problem()
        weight = np.zeros(40, np.float32)
        weight[:10] = 2
        seen = []

        def loss(prediction, target, sample_weight):
            seen.append(sample_weight.numpy().copy())
            return ((prediction - target).square().sum(dim=1) * sample_weight).sum() / sample_weight.sum()

        model = linear()
        batches = Batches(x, y, weight, batch_size=8, drop_last=True)
        got = train.evaluate(model, batches, loss, compile=False)["loss"]
        np.testing.assert_array_equal(np.concatenate(seen), weight)
        assert math.isnan(got)  # batches without any weight have no mean
        batches = Batches(x[:12], y[:12], weight[:12], batch_size=9)
        got = train.evaluate(model, batches, loss, compile=False)["loss"]
        expected = train.evaluate(model, Batches(x[:10], y[:10], batch_size=10), nn.MSELoss())["loss"]
        assert got == pytest.approx(expected, rel=1e-5)

    def test_predict_joins_the_batches(self):
        x, y = problem()
        model = linear()
        got = train.predict(model, Batches(x, y, batch_size=7))
        assert got.shape == (40, 1)
        with fastbp.no_grad():
            np.testing.assert_allclose(got, model(fastbp.tensor(x)).numpy(), rtol=1e-6, atol=1e-6)
