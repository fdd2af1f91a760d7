"""Metrics: functions of (prediction, target) that return the mean over a batch as a tensor of one number."""

from __future__ import annotations

from fastbp.dtypes import float32
from fastbp.tensor import Tensor


def accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the share of rows whose largest score is at the target's class.

    prediction: scores (rows, classes), of any monotone kind. target: int64 (rows,), or probabilities (rows, classes).
    """
    if target.ndim == 2:
        target = target.argmax(dim=1)
    return (prediction.argmax(dim=1) == target).to(float32).mean()


def binary_accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the share of elements whose logit's sign tells the target, 0 or 1; equal shapes."""
    return ((prediction > 0) == (target > 0.5)).to(float32).mean()


def mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return mean((prediction - target)^2); equal shapes."""
    return (prediction - target).square().mean()


def mean_absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return mean(|prediction - target|); equal shapes."""
    return (prediction - target).abs().mean()
