"""The digits inside the package: 1,797 images of 8 x 8 pixels (digits.txt names their makers and licence)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .scaling import Scaling
from .split import split_rows

SCALING = Scaling.unit(16.0)


def check_split(function: str, split: str) -> None:
    """Raise ValueError unless split is 'train' or 'test'."""
    if split not in ("train", "test"):
        raise ValueError(f"[{function}] expected split 'train' or 'test', got {split!r}")


def read_digits(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Return the raw pixels (rows, 64) uint8, 0 to 16, and the labels (rows,) int64."""
    check_split("load_digits", split)
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        x, y = file["x"], file["y"].astype(np.int64)
    rows = split_rows(y)[split == "test"]
    return x[rows], y[rows]


def load_digits(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Return the digits' images (rows, 64) float32 in [0, 1] and labels (rows,) int64.

    x = pixel / 16. The split is fixed and stratified (`split_rows`): 1,437 rows for training, 360 for testing.
    Source: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI, CC BY 4.0.
    """
    x, y = read_digits(split)
    return SCALING(x), y
