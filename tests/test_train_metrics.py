"""The metrics that come with fit: values worked out by hand."""

from __future__ import annotations

import numpy as np

import fastbp
from fastbp import train


class TestMetrics:
    scores = fastbp.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0], [1.0, 0.0, 0.0]])

    def test_accuracy_for_labels_and_probabilities(self):
        assert train.accuracy(self.scores, fastbp.tensor([0, 2, 2, 0])).item() == 0.75
        probabilities = fastbp.tensor(np.eye(3, dtype=np.float32)[[0, 2, 2, 0]])
        assert train.accuracy(self.scores, probabilities).item() == 0.75

    def test_binary_accuracy(self):
        logits, target = fastbp.tensor([-1.0, 2.0, 0.5, -3.0]), fastbp.tensor([0.0, 1.0, 0.0, 0.0])
        assert train.binary_accuracy(logits, target).item() == 0.75

    def test_errors(self):
        a, b = fastbp.tensor([1.0, 2.0]), fastbp.tensor([2.0, 5.0])
        assert train.mean_squared_error(a, b).item() == 5
        assert train.mean_absolute_error(a, b).item() == 2
