"""Which rows are held out for testing, by a rule without randomness."""

from __future__ import annotations

import numpy as np


def split_rows(labels: np.ndarray, every: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Hold out one row in `every`, the same share of each class, and return (train rows, test rows) in ascending order.

    Of n rows ceil(n / every) are held out. A class with c rows gives c / n of them, rounded by largest remainder (ties
    to the smaller label), spread evenly over its rows in the order given; it keeps at least one row for training.
    labels: (n,) integers; all zeros for rows that have no class. The rule depends on nothing but the labels.
    """
    if labels.ndim != 1 or labels.size < 2:
        raise ValueError(f"[split_rows] expected at least 2 labels in one dimension, got shape {labels.shape}")
    if every < 2:
        raise ValueError(f"[split_rows] expected every >= 2, got {every}")
    _, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    held = -(-labels.size // every)
    quota, remainder = np.divmod(counts * held, labels.size)
    quota[np.argsort(-remainder, kind="stable")[: held - quota.sum()]] += 1
    quota = np.minimum(quota, counts - 1)
    test = np.zeros(labels.size, dtype=bool)
    by_class = np.split(np.argsort(members, kind="stable"), np.cumsum(counts)[:-1])
    for rows, count, share in zip(by_class, counts, quota, strict=True):
        test[rows[(2 * np.arange(share) + 1) * count // (2 * max(share, 1))]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
