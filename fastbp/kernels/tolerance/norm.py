"""Rules of normalisation.

A sum over n is off by at most m = R·Σ|x|/n, R the roundings of a sum. The mean, corrected by the deviations d + m
beside that, is off by R·(Σ|d|/n + m) and its own last rounding; the sum of squares by R·(2·Σd² + 4·n·m²); 1/√(v + ε) by
what that changes v. With given statistics only the roundings of the equation itself are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.kernels.tolerance.rules import LANES, roundings, rule


class Statistics:
    """What is known of the mean and of r = 1/√(v + epsilon), v the variance, of x along an axis. eps: of the type."""

    def __init__(self, x: np.ndarray, axis: int, epsilon: float, eps: float, centered: bool = True) -> None:
        n, adds = np.float64(x.shape[axis]), roundings(x.shape[axis], eps, LANES if axis else 1)
        zero = np.zeros(1)
        self.mean = np.mean(x, axis=axis, keepdims=True) if centered else zero
        rough = (adds + eps) * np.mean(np.abs(x), axis=axis, keepdims=True) if centered else zero
        self.deviation = np.abs(x - self.mean)
        beside = np.mean(self.deviation, axis=axis, keepdims=True) + rough
        self.mean_error = (adds + 2 * eps) * beside + eps * np.abs(self.mean) if centered else zero
        squares = np.sum(np.square(self.deviation), axis=axis, keepdims=True)
        self.squares_error = (adds + 4 * eps) * (2 * squares + 4 * n * np.square(rough))
        variance, error = squares / n, self.squares_error / n
        total = variance + epsilon
        above = np.sqrt(total / (np.maximum(variance - error, 0) + epsilon)) - 1
        below = 1 - np.sqrt(total / (total + error))
        self.scale = 1 / np.sqrt(total)
        self.scale_error = np.maximum(above, below) + 4 * eps  # relative

    def normal_error(self, w: Any, b: Any, eps: float) -> np.ndarray:
        """Of (x − mean)·r·w + b."""
        w, b = 1.0 if w is None else np.abs(w), 0.0 if b is None else np.abs(b)
        moved = (self.mean_error + eps * self.deviation) * (1 + self.scale_error)
        normal = self.scale * (moved + self.deviation * self.scale_error)
        return (normal + 3 * eps * self.deviation * self.scale) * w + eps * (b + self.deviation * self.scale * w)


@rule("row_norm_forward")
def _(x: Any, w: Any, b: Any, epsilon: float, mean: Any, output: str, eps: float) -> Any:
    known = Statistics(x, 1, epsilon, eps, mean is not None)
    if output == "mean":
        return known.mean_error[:, 0]
    return (known.scale * known.scale_error)[:, 0] if output == "rstd" else known.normal_error(w, b, eps)


@rule("row_norm_backward_input")
def _(dy: Any, x: Any, w: Any, mean: Any, rstd: Any, eps: float) -> Any:
    g, r = np.abs(dy if w is None else dy * w), rstd[:, None]
    d, n = np.abs(x - (0 if mean is None else mean[:, None])), x.shape[1]
    adds = roundings(n, eps, LANES) + 8 * eps
    shift = 0 if mean is None else np.sum(g, axis=1, keepdims=True) / n
    tilt = np.square(r) * np.sum(g * d, axis=1, keepdims=True) / n
    return r * (4 * eps * g + adds * (shift + d * tilt))


@rule("row_norm_backward_weight")
def _(dy: Any, x: Any, mean: Any, rstd: Any, accumulate: bool, dw: Any, db: Any, output: str, eps: float) -> Any:
    terms = np.abs(dy)
    if output == "dw":
        terms = terms * np.abs(x - (0 if mean is None else mean[:, None])) * rstd[:, None]
    before = (dw if output == "dw" else db) if accumulate else np.float64(0)
    return (roundings(dy.shape[0], eps) + 3 * eps) * np.sum(terms, axis=0) + eps * np.abs(before)


@rule("batch_norm_forward")
def _(
    x: Any, w: Any, b: Any, batches: Any, epsilon: float, momentum: float, running_mean: Any, running_var: Any,
    output: str, eps: float,
) -> Any:  # fmt: skip
    rows, known = x.shape[0], Statistics(x, 0, epsilon, eps)
    if output == "mean":
        return known.mean_error[0]
    if output == "rstd":
        return (known.scale * known.scale_error)[0]
    if output == "y":
        return known.normal_error(w, b, eps)
    share = momentum if batches is None else 1 / np.float64(batches.reshape(())[()])
    if output == "running_mean":
        before, now, error = running_mean, known.mean[0], known.mean_error[0]
    else:
        before, error = running_var, known.squares_error[0] / (rows - 1)
        now = np.sum(np.square(known.deviation), axis=0) / (rows - 1)
    return share * error + 3 * eps * (np.abs(1 - share) * np.abs(before) + share * np.abs(now))


@rule("batch_norm_apply")
def _(x: Any, mean: Any, variance: Any, w: Any, b: Any, epsilon: float, eps: float) -> Any:
    normal = np.abs(x - (0 if mean is None else mean)) / np.sqrt(variance + epsilon) * (1 if w is None else np.abs(w))
    return eps * (6 * normal + (0 if b is None else np.abs(b)))


@rule("batch_norm_backward")
def _(dy: Any, x: Any, w: Any, mean: Any, rstd: Any, output: str, eps: float) -> Any:
    rows, dy, d = x.shape[0], np.abs(dy), np.abs(x - mean)
    adds = roundings(rows, eps) + 8 * eps
    shift, tilt = np.sum(dy, axis=0), np.sum(dy * d, axis=0)
    if output != "dx":
        return adds * (shift if output == "db" else rstd * tilt)
    scale = rstd if w is None else rstd * np.abs(w)
    return scale * (5 * eps * dy + adds * (shift + d * np.square(rstd) * tilt) / rows)
