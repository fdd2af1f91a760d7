"""Losses of classes: cross-entropy of logits, and the negative log-likelihood of log-probabilities."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from fastbp.dtypes import FLOATING_CODES, int64
from fastbp.kernels.storage import empty
from fastbp.ops.binary import where
from fastbp.ops.common import backend_of, like, shaped
from fastbp.ops.loss.fused import Fused, check_reduction, denominator_of, run, tensor_operand, weights_of
from fastbp.ops.reduce import sum as sum_of
from fastbp.ops.shape import expand, movedim, reshape
from fastbp.ops.softmax import log_softmax
from fastbp.tensor import Tensor, contiguous, filled

__all__ = ["cross_entropy", "nll_loss"]


class Rows(NamedTuple):
    """Checked operands of a loss of classes, one row for each entry: x (rows, C), target (rows,) or (rows, C), class
    weights w (C,) and sample weights s (rows,); `outside` is the shape of the losses."""

    x: Tensor
    target: Tensor
    w: Tensor | None
    s: Tensor | None
    outside: tuple[int, ...]

    @property
    def probabilities(self) -> bool:
        return self.target.buffer.dtype in FLOATING_CODES

    def loss(
        self, op: str, kernel: str, constants: tuple[Any, ...], value: Any, reduction: str, ignore_index: int
    ) -> Tensor:
        """The loss by a kernel; value(x, target, w): the loss of each row from plain operations."""
        x, target, w, s, outside = self
        composition = functools.partial(_composed, value, reduction, ignore_index, outside)
        reads = [None if t is None else contiguous(t) for t in (x, target, w, s)]
        loss = Fused(op, kernel, constants, composition, (x, target, w, s))
        try:
            if reduction != "mean" or self.probabilities:
                denominator = denominator_of(x.dtype, reduction, s, x.shape[0], 1)
            else:
                denominator = Tensor(empty((1,), x.buffer.dtype))
                backend_of(x).cross_entropy_denominator(*reads[1:], ignore_index, denominator.buffer)
            return run(loss, reads, denominator, outside, reduction)
        except IndexError as error:  # in the name of a kernel, which means nothing to who called the operation
            raise IndexError(f"[{op}] {str(error).partition('] ')[2]}") from None


def _rows_of(
    op: str,
    input: Any,
    target: Any,
    weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    reduction: str,
    meaning: str,
    may_be_probabilities: bool,
) -> Rows:
    """The operands of a loss of classes, checked: input (N, C), (C,) or (N, C, d...)."""
    x, target = tensor_operand(input, op, "input"), tensor_operand(target, op, "target")
    check_reduction(reduction, op)
    dtype, shape = x.dtype, x.shape
    if not dtype.is_floating_point or not shape:
        raise TypeError(f"[{op}] expected input as {meaning} (N, C) of floating dtype, got {dtype} {shape}")
    if not isinstance(ignore_index, int) or not -(2**63) <= ignore_index < 2**63:
        raise TypeError(f"[{op}] expected ignore_index as an integer of 64 bits, got {ignore_index!r}")
    at = min(len(shape) - 1, 1)
    outside = shape[:at] + shape[at + 1 :]
    probabilities = may_be_probabilities and target.buffer.dtype in FLOATING_CODES
    if not probabilities and target.dtype is not int64:
        also = " or as probabilities" if may_be_probabilities else ""
        raise TypeError(f"[{op}] expected target as int64 classes{also}, got {target.dtype}")
    if target.shape != (shape if probabilities else outside):
        wanted = f"probabilities {shape}" if probabilities else f"classes {outside}"
        raise ValueError(f"[{op}] expected target as {wanted} for input {shape}, got {target.dtype} {target.shape}")
    classes, rows = shape[at], math.prod(outside)
    w = weights_of(weight, (classes,), dtype, op, "weight")
    s = weights_of(sample_weight, (shape[0] if len(shape) > 1 else 1,), dtype, op)
    if s is not None and len(shape) > 2:
        s = reshape(expand(reshape(s, (-1,) + (1,) * (len(shape) - 2)), outside), rows)
    x = shaped(_classes_last(x, at), (rows, classes))
    if probabilities:
        target = shaped(_classes_last(target.to(dtype), at), (rows, classes))
    else:
        target = shaped(target, (rows,))
    return Rows(x, target, w, s, outside)


def _classes_last(x: Tensor, at: int) -> Tensor:
    return x if at == x.buffer.ndim - 1 else movedim(x, at, -1)


def _composed(
    value: Any,
    reduction: str,
    ignore_index: int,
    outside: tuple[int, ...],
    x: Tensor,
    target: Tensor,
    w: Tensor | None,
    s: Tensor | None,
) -> Tensor:
    """The loss of rows from plain operations."""
    losses = value(x, target, w)
    losses = losses if s is None else losses * s
    if reduction == "none":
        return shaped(losses, outside)
    total = sum_of(losses)
    if reduction == "sum":
        return total
    if target.dtype is not int64:
        return total / (x.shape[0] if s is None else sum_of(s))
    weights = sum_of(_target_mass(ignore_index, 0.0, x, target, w), 1)
    return total / sum_of(weights if s is None else weights * s)


def _target_mass(ignore_index: int, smoothing: float, x: Tensor, target: Tensor, w: Tensor | None) -> Tensor:
    """T with loss = −Σ T·log p: the smoothed, weighted target distribution of every row."""
    classes = x.shape[1]
    if target.dtype is int64:
        mass = _one_hot(ignore_index, x, target)
        if smoothing:
            kept = sum_of(mass, 1, keepdim=True)
            mass = mass * (1 - smoothing) + kept * (smoothing / max(classes, 1))
    else:
        mass = target * (1 - smoothing) + smoothing / max(classes, 1) if smoothing else target
    return mass if w is None else mass * w


def _one_hot(ignore_index: int, x: Tensor, target: Tensor) -> Tensor:
    """1 at the class of each row that is not ignored: a derivative of nll_loss, whose kernel looks at classes."""
    mass, losses = like(x), empty((x.shape[0],), x.buffer.dtype)
    reads = contiguous(x), contiguous(target), None, None, filled((1,), -1.0, x.dtype).buffer
    backend_of(x).nll_forward(*reads, ignore_index, losses, mass.buffer)
    return mass


def _likelihood(ignore_index: int, smoothing: float, logp: Tensor, target: Tensor, w: Tensor | None) -> Tensor:
    """−Σ T·log p of every row; where T is 0 so is the term, even for p = 0."""
    mass = _target_mass(ignore_index, smoothing, logp, target, w)
    terms = mass * logp
    if target.dtype is int64:
        terms = where(mass == 0, 0.0, terms)
    return -sum_of(terms, 1)


def _cross_entropy(ignore_index: int, smoothing: float, x: Tensor, target: Tensor, w: Tensor | None) -> Tensor:
    return _likelihood(ignore_index, smoothing, log_softmax(x, 1), target, w)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = −Σ_c T_c·log_softmax(x)_c, T the target distribution of each row.

    input: logits (N, C), (C,) or (N, C, d...). target: int64 classes of input's shape without C, or probabilities of
    input's shape. With class weights w and smoothing ε, T_c = w_c·((1 − ε)·[c = t] + ε/C).
    sample_weight: (N,). Rows whose class is ignore_index count nothing.
    Raises ValueError for shapes that do not fit, IndexError for classes, TypeError for other dtypes.
    """
    op = "cross_entropy"
    rows = _rows_of(op, input, target, weight, sample_weight, ignore_index, reduction, "logits", True)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"[{op}] expected label_smoothing from 0 to 1, got {label_smoothing}")
    smoothing = float(label_smoothing)
    value = functools.partial(_cross_entropy, ignore_index, smoothing)
    if rows.probabilities:
        return rows.loss(op, "cross_entropy_probabilities_forward", (smoothing,), value, reduction, ignore_index)
    return rows.loss(op, "cross_entropy_forward", (ignore_index, smoothing), value, reduction, ignore_index)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = −w[t]·x[t] for log-probabilities x and classes t; the mean divides by Σ s·w[t].

    input: (N, C), (C,) or (N, C, d...). target: int64 classes of input's shape without C. sample_weight: s (N,). Rows
    whose class is ignore_index count nothing.
    Raises ValueError for shapes that do not fit, IndexError for classes, TypeError for dtypes.
    """
    op = "nll_loss"
    args = (input, target, weight, sample_weight, ignore_index, reduction)
    rows = _rows_of(op, *args, "log-probabilities", False)
    value = functools.partial(_likelihood, ignore_index, 0.0)
    return rows.loss(op, "nll_forward", (ignore_index,), value, reduction, ignore_index)
