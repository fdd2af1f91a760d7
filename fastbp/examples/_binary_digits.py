"""The embedded digits in black and white, for the examples that model their distribution, and a yardstick for these."""

from __future__ import annotations

import numpy as np

from fastbp import data

PIXELS = 64


def load_binary_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (rows, 64) float32 whose pixels are 1 where the digit has at least half of the ink, and labels (rows,)."""
    x, labels = data.load_digits(split)
    return (x >= 0.5).astype(np.float32), labels


def nats_of_independent_pixels() -> float:
    """-log p of a test image, on average, where every pixel is black by its own frequency and regardless of others."""
    (train, _), (test, _) = load_binary_digits("train"), load_binary_digits("test")
    p = (train.sum(axis=0, dtype=np.float64) + 1) / (len(train) + 2)  # Laplace's rule: no pixel is impossible
    return float(-np.log(np.where(test == 1, p, 1 - p)).sum(axis=1).mean())
