"""Losses: one kernel gives the loss of every row and its gradient together.

Every loss takes `sample_weight`, one weight s for each entry of the first dimension. With reduction

    "none"  the weighted losses, unreduced
    "sum"   their sum
    "mean"  their sum divided by the total weight: Σᵢ sᵢ·n for element losses with n elements in each entry;
            Σᵢ sᵢ·w[tᵢ] for cross_entropy with integer targets (entries with ignore_index do not count) and Σᵢ sᵢ with
            probability targets. Without weights that is the plain mean, as PyTorch has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from fastbp.autograd import mode
from fastbp.dtypes import FLOATING_CODES, int64
from fastbp.function import Function, record
from fastbp.kernels.storage import empty
from fastbp.ops.binary import eq, ne, where
from fastbp.ops.common import as_tensor_operand, backend_of, broadcast_shape, like, new
from fastbp.ops.reduce import sum as sum_of
from fastbp.ops.shape import expand, movedim, reshape
from fastbp.ops.softmax import log_softmax, softmax
from fastbp.ops.unary import abs as absolute
from fastbp.ops.unary import clamp, log, sigmoid, softplus_unit, square, step
from fastbp.tensor import Tensor, contiguous, filled

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "mse_loss",
    "nll_loss",
]

REDUCTIONS = ("none", "mean", "sum")


class Call(NamedTuple):
    """How a row loss runs: its kernel with the operands around the denominator, and ∂loss/∂x from recorded operations
    (weighted, not divided) for a backward pass that is itself recorded."""

    kernel: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    reduce: bool
    derivative: Callable[[Tensor, Tensor], Tensor]


class RowLoss(Function):
    """Losses of the rows of x, or their sum over the denominator, which is a tensor of one element."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, None, None]:
        x, target, denominator, dx = ctx.saved_tensors
        if mode.enabled:
            dx = ctx.call.derivative(x, target) / denominator
        return dx * (dy if ctx.call.reduce else reshape(dy, (-1, 1))), None, None


def _row_loss(x: Tensor, target: Tensor, denominator: Tensor, call: Call) -> Tensor:
    k = backend_of(x)
    losses = empty((x.buffer.shape[0],), x.buffer.dtype)
    dx = like(x) if x.requires_grad and mode.enabled else None
    getattr(k, call.kernel)(
        contiguous(x),
        contiguous(target),
        *call.before,
        denominator.buffer,
        *call.after,
        losses,
        None if dx is None else dx.buffer,
    )
    if call.reduce:
        total = empty((1, 1), losses.dtype)
        k.reduce_sum(losses.reshape((1, -1, 1)), total)
        result = empty((), losses.dtype)
        k.div(total.reshape(()), denominator.buffer.reshape(()), result)
        y = Tensor(result)
    else:
        y = Tensor(losses)
    if node := record(RowLoss, (x, target, denominator), y):
        node.call = call
        node.save_for_backward(x, target, denominator, dx)
    return y


def _check_reduction(reduction: str, op: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"[{op}] expected reduction {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")


def _check_ignore_index(index: Any, op: str) -> None:
    if not isinstance(index, int) or not -(2**63) <= index < 2**63:
        raise TypeError(f"[{op}] expected ignore_index as an integer of 64 bits, got {index!r}")


def _weights(w: Any, shape: tuple[int, ...], dtype: Any, op: str, name: str) -> Tensor | None:
    """Weights of one shape and dtype, or None."""
    if w is None:
        return None
    w = as_tensor_operand(w, op)
    if w.shape != shape:
        raise ValueError(f"[{op}] expected {name} of shape {shape}, got {w.shape}")
    return w.to(dtype)


def _rows(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x in the shape that the kernels take: mostly it has that already."""
    return x if x.buffer.shape == shape else reshape(x, shape)


def _classes_last(x: Tensor, at: int) -> Tensor:
    return x if at == x.buffer.ndim - 1 else movedim(x, at, -1)


def _buffer(x: Tensor | None) -> Any:
    return None if x is None else contiguous(x)


def _column(w: Tensor | None) -> Any:
    """Row weights as a factor of (rows, cols)."""
    return 1.0 if w is None else reshape(w, (-1, 1))


# ---------------------------------------------------------------- losses of elements


def _element_loss(
    op: str,
    kernel: str,
    x: Any,
    target: Any,
    reduction: str,
    sample_weight: Any,
    value: Callable[..., Tensor],
    derivative: Callable[..., Tensor],
    pos_weight: Any = None,
) -> Tensor:
    """A loss that is a sum over elements. value, derivative: l(x, t) and ∂l/∂x from recorded operations."""
    x, target = as_tensor_operand(x, op), as_tensor_operand(target, op)
    _check_reduction(reduction, op)
    dtype, shape = x.dtype, x.shape
    if not dtype.is_floating_point:
        raise TypeError(f"[{op}] expected input of floating dtype, got {dtype}")
    if shape != target.shape:
        raise ValueError(f"[{op}] expected target of the shape of input, {shape}, got {target.shape}")
    if target.dtype is not dtype:
        target = target.to(dtype)
    rows = shape[0] if shape else 1
    cols = math.prod(shape[1:])
    s = _weights(sample_weight, (rows,), dtype, op, "sample_weight")
    if reduction == "none" and shape:
        # Every element is a row of its own, with the weight of its entry.
        s = None if s is None else reshape(expand(reshape(s, (rows,) + (1,) * (len(shape) - 1)), shape), x.numel())
        rows, cols = x.numel(), 1
    if pos_weight is not None:
        pos_weight = as_tensor_operand(pos_weight, op).to(dtype)
        if broadcast_shape(op, pos_weight.shape, shape) != shape:
            raise ValueError(f"[{op}] expected pos_weight that broadcasts to {shape}, got {pos_weight.shape}")
        pos_weight = expand(pos_weight, shape)
    if target.requires_grad or (pos_weight is not None and (cols == 1 or len(shape) < 2)):
        # Rare enough to be composed: gradients of the target, positive weights that vary along the rows.
        losses = value(x, target) if pos_weight is None else value(x, target, pos_weight)
        if s is not None:
            losses = losses * reshape(s, shape if cols == 1 else (rows,) + (1,) * (len(shape) - 1))
        if reduction != "mean":
            return losses if reduction == "none" else sum_of(losses)
        return sum_of(losses) / (rows * cols if s is None else sum_of(s) * cols)
    if reduction != "mean":
        denominator = filled((1,), 1.0, dtype)
    else:
        denominator = filled((1,), rows * cols, dtype) if s is None else reshape(sum_of(s) * cols, 1)
    p = None if pos_weight is None else reshape(pos_weight[0], (cols,))

    def slope(x: Tensor, t: Tensor) -> Tensor:
        return (derivative(x, t) if p is None else derivative(x, t, p)) * _column(s)

    call = Call(kernel, (_buffer(p), _buffer(s)), (), reduction != "none", slope)
    y = _row_loss(_rows(x, (rows, cols)), _rows(target, (rows, cols)), denominator, call)
    return reshape(y, shape) if reduction == "none" else y


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """Squared error l = (x − t)²."""
    return _element_loss(
        "mse_loss",
        "mse_forward",
        input,
        target,
        reduction,
        sample_weight,
        lambda x, t: square(x - t),
        lambda x, t: 2 * (x - t),
    )


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """Absolute error l = |x − t|; the derivative at 0 is 0."""
    return _element_loss(
        "l1_loss",
        "l1_forward",
        input,
        target,
        reduction,
        sample_weight,
        lambda x, t: absolute(x - t),
        lambda x, t: step(x - t, 0, 1) - step(t - x, 0, 1),
    )


def binary_cross_entropy(
    input: Tensor, target: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None
) -> Tensor:
    """l = −(t ln x + (1 − t) ln(1 − x)) for probabilities x; the logarithms are kept ≥ −100, as PyTorch does."""
    return _element_loss(
        "binary_cross_entropy",
        "binary_cross_entropy_forward",
        input,
        target,
        reduction,
        sample_weight,
        lambda x, t: -(t * clamp(log(x), min=-100) + (1 - t) * clamp(log(1 - x), min=-100)),
        lambda x, t: (x - t) / clamp(x * (1 - x), min=1e-12),
    )


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """l = (1 − t)x + (1 + (p − 1)t)·ln(1 + e⁻ˣ) for logits x: binary cross-entropy of σ(x), without overflow.

    pos_weight: p, the weight of positive examples; broadcasts to an entry of the input. 1 when left out.
    """
    return _element_loss(
        "binary_cross_entropy_with_logits",
        "sigmoid_cross_entropy_forward",
        input,
        target,
        reduction,
        sample_weight,
        lambda x, t, p=1.0: (1 - t) * x + (1 + (p - 1) * t) * softplus_unit(-x),
        lambda x, t, p=1.0: (1 + (p - 1) * t) * sigmoid(x) - p * t,
        pos_weight,
    )


# ---------------------------------------------------------------- cross-entropy


def _target_mass(x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, smoothing: float) -> Tensor:
    """T with loss = −Σ T·log_softmax(x): the smoothed, weighted target distribution of every row."""
    classes = x.shape[1]
    if target.dtype is int64:
        positions = new((classes,), int64)
        backend_of(x).arange(0, 1, positions.buffer)
        kept = reshape(ne(target, ignore_index), (-1, 1)).to(x.dtype)
        hit = eq(reshape(target, (-1, 1)), positions).to(x.dtype)
        if weight is not None:
            hit = hit * weight  # smoothing spreads each class's own weight
        spread = kept * (smoothing / classes) * (1.0 if weight is None else weight)
        return hit * kept * (1 - smoothing) + spread
    mass = target * (1 - smoothing) + smoothing / classes
    return mass if weight is None else mass * weight


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
    x, target = as_tensor_operand(input, op), as_tensor_operand(target, op)
    _check_reduction(reduction, op)
    dtype, shape = x.dtype, x.shape
    if not dtype.is_floating_point or not shape:
        raise TypeError(f"[{op}] expected input as logits (N, C) of floating dtype, got {dtype} {shape}")
    _check_ignore_index(ignore_index, op)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"[{op}] expected label_smoothing from 0 to 1, got {label_smoothing}")
    at = min(len(shape) - 1, 1)
    outside = shape[:at] + shape[at + 1 :]
    probabilities = target.buffer.dtype in FLOATING_CODES
    if target.shape != (shape if probabilities else outside):
        wanted = f"probabilities {shape}" if probabilities else f"classes {outside}"
        raise ValueError(f"[{op}] expected target as {wanted} for input {shape}, got {target.dtype} {target.shape}")
    if not probabilities and target.dtype is not int64:
        raise TypeError(f"[{op}] expected target as int64 classes or as probabilities, got {target.dtype}")
    classes, rows = shape[at], math.prod(outside)
    w = _weights(weight, (classes,), dtype, op, "weight")
    s = _weights(sample_weight, (shape[0] if len(shape) > 1 else 1,), dtype, op, "sample_weight")
    if s is not None and len(shape) > 2:
        s = reshape(expand(reshape(s, (-1,) + (1,) * (len(shape) - 2)), outside), rows)

    logits = _rows(_classes_last(x, at), (rows, classes))
    if probabilities:
        target = _rows(_classes_last(target.to(x.dtype), at), (rows, classes))
    else:
        target = _rows(target, (rows,))
    denominator = _cross_entropy_denominator(logits, target, w, s, ignore_index, reduction)
    if target.requires_grad:
        losses = -sum_of(_target_mass(logits, target, w, ignore_index, label_smoothing) * log_softmax(logits), 1)
        losses = losses if s is None else losses * s
        return reshape(losses, outside) if reduction == "none" else reshape(sum_of(losses) / denominator, ())

    def slope(x: Tensor, t: Tensor) -> Tensor:
        mass = _target_mass(x, t, w, ignore_index, label_smoothing)
        return (softmax(x) * sum_of(mass, 1, keepdim=True) - mass) * _column(s)

    if probabilities:
        call = Call(
            "cross_entropy_probabilities_forward",
            (_buffer(w), _buffer(s)),
            (label_smoothing,),
            reduction != "none",
            slope,
        )
    else:
        after = (ignore_index, float(label_smoothing))
        call = Call("cross_entropy_forward", (_buffer(w), _buffer(s)), after, reduction != "none", slope)
    y = _row_loss(logits, target, denominator, call)
    return reshape(y, outside) if reduction == "none" else y


def _cross_entropy_denominator(
    x: Tensor, target: Tensor, w: Tensor | None, s: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    if reduction != "mean":
        return filled((1,), 1.0, x.dtype)
    if target.buffer.dtype != int64.code:
        return filled((1,), x.shape[0], x.dtype) if s is None else reshape(sum_of(s), 1)
    y = empty((1,), x.buffer.dtype)
    backend_of(x).cross_entropy_denominator(contiguous(target), _buffer(w), _buffer(s), ignore_index, y)
    return Tensor(y)


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """l = −w[t]·x[t] for log-probabilities x (N, C) and int64 classes t (N,); the mean divides by Σ w[t].

    Raises ValueError for shapes that do not fit, IndexError for classes, TypeError for dtypes.
    """
    op = "nll_loss"
    x, target = as_tensor_operand(input, op), as_tensor_operand(target, op)
    _check_reduction(reduction, op)
    _check_ignore_index(ignore_index, op)
    if not x.dtype.is_floating_point or x.ndim != 2:
        raise TypeError(f"[{op}] expected input as log-probabilities (N, C) of floating dtype, got {x.dtype} {x.shape}")
    if target.dtype is not int64:
        raise TypeError(f"[{op}] expected target as int64 classes, got {target.dtype}")
    if target.shape != x.shape[:1]:
        raise ValueError(f"[{op}] expected target as classes {x.shape[:1]} for input {x.shape}, got {target.shape}")
    w = _weights(weight, x.shape[1:], x.dtype, op, "weight")
    labels = where(ne(target, ignore_index), target, 0)
    for label in (labels.min().item(), labels.max().item()) if labels.numel() else ():
        if not 0 <= label < max(x.shape[1], 1):  # an ignored label counts as 0
            raise IndexError(f"[{op}] expected target classes from 0 to {x.shape[1] - 1}, got {label}")
    mass = _target_mass(x, target, w, ignore_index, 0.0)
    losses = -sum_of(where(mass == 0, 0.0, mass * x), 1)
    if reduction == "none":
        return losses
    return sum_of(losses) if reduction == "sum" else sum_of(losses) / sum_of(mass)
