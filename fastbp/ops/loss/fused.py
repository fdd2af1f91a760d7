"""What all losses share: the node of a fused loss, its kernel's call, reductions, and checks of operands."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastbp.autograd import mode
from fastbp.function import Function, composed_gradients, record
from fastbp.kernels.storage import empty
from fastbp.ops.common import backend_of, like, shaped
from fastbp.ops.reduce import mean
from fastbp.ops.reduce import sum as sum_of
from fastbp.ops.shape import expand, reshape
from fastbp.tensor import Tensor, contiguous, filled

REDUCTIONS = ("none", "mean", "sum")


class Fused(NamedTuple):
    """How a loss runs, and the plain operations that it stands for.

    op, kernel: their names. constants: what the kernel takes by value. composition(*inputs): the same result, to be
    differentiated by every input. inputs: all tensors that the loss depends on, None for an absent one. predictions:
    the places, among the inputs, of those that the kernel has gradients of.
    """

    op: str
    kernel: str
    constants: tuple[Any, ...]
    composition: Callable[..., Tensor]
    inputs: tuple[Tensor | None, ...]
    predictions: tuple[int, ...] = (0,)


class Loss(Function):
    """A loss whose kernel gave the gradients of its predictions in the same pass."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        count = len(ctx.edges)
        saved = ctx.saved_tensors
        if mode.enabled:
            return composed_gradients(ctx.composition, saved[:count], ctx.edges, dy)
        result: list[Any] = [None] * count
        for place, gradient in zip(ctx.predictions, saved[count:]):
            if gradient is not None:
                result[place] = gradient * _beside(dy, gradient)
        return tuple(result)


def _beside(dy: Tensor, gradient: Tensor) -> Tensor:
    """dy as a factor of the gradient: one number, one for each element, or one for each row."""
    if dy.ndim == 0 or dy.shape == gradient.shape:
        return dy
    return reshape(dy, (-1,) + (1,) * (gradient.ndim - 1))


@functools.cache
def _function(op: str) -> type[Loss]:
    """The loss's own Function, by whose name nodes of the graph are known."""
    return type("".join(word.capitalize() for word in op.split("_")), (Loss,), {"__module__": __name__})


def run(loss: Fused, reads: Sequence[Any], denominator: Tensor, shape: tuple[int, ...], reduction: str) -> Tensor:
    """The losses of all rows in a shape, or their sum over the denominator, which is a tensor of one element.

    reads: buffers of what the kernel reads, in the shapes that it takes, those of the predictions at their places.
    Runs as the plain operations where somebody asks for them, or for gradients that the kernel does not give.
    """
    op, kernel, constants, composition, inputs, predictions = loss
    gradients: list[Tensor | None] = [None] * len(predictions)
    written: list[Any] = [None] * len(predictions)
    recorded = False
    for i, t in enumerate(inputs):
        if t is not None and t._requires_grad and mode.enabled:
            if i not in predictions:
                return composition(*inputs)
            at, recorded = predictions.index(i), True
            gradient = gradients[at] = like(t)
            written[at] = shaped(gradient.buffer, reads[i].shape)
    if mode.composed:
        return composition(*inputs)
    k, x = backend_of(denominator), reads[0]
    losses = empty((x.shape[0],), x.dtype)
    getattr(k, kernel)(*reads, denominator.buffer, *constants, losses, *written)
    if reduction == "none":
        y = Tensor(shaped(losses, shape))
    else:
        total, result = empty((1, 1), x.dtype), empty((), x.dtype)
        k.reduce_sum(losses.reshape((1, -1, 1)), total)
        k.div(total.reshape(()), denominator.buffer.reshape(()), result)
        y = Tensor(result)
    if recorded:
        node = record(_function(op), inputs, y)
        node.composition, node.predictions = composition, predictions
        node.save_for_backward(*inputs, *gradients)
    return y


def buffer_of(x: Tensor | None, shape: tuple[int, ...]) -> Any:
    """x's elements in the shape that a kernel takes; None for none."""
    return None if x is None else shaped(contiguous(x), shape)


# ---------------------------------------------------------------- reductions


def denominator_of(dtype: Any, reduction: str, s: Tensor | None, entries: int, each: int) -> Tensor:
    """What the sum of the losses is divided by: for a mean the total weight of the entries, `each` times."""
    if reduction in ("none", "sum"):
        return filled((1,), 1.0, dtype)
    return filled((1,), entries * each, dtype) if s is None else reshape(sum_of(s.detach()) * each, 1)


def reduced(losses: Tensor, s: Tensor | None, reduction: str) -> Tensor:
    """The same from plain operations: losses (N, ...) weighted by s (N,), and their sum over the denominator."""
    if s is not None:
        losses = losses * reshape(s, (-1,) + (1,) * (losses.ndim - 1) if losses.ndim else ())
    if reduction == "none":
        return losses
    if reduction == "mean" and s is None:
        return mean(losses)
    total = sum_of(losses)
    if reduction == "sum":
        return total
    entries = losses.shape[0] if losses.ndim else 1
    if s is None:  # "batchmean"
        return total / entries
    return total / (sum_of(s) * (losses.numel() // max(entries, 1) if reduction == "mean" else 1))


# ---------------------------------------------------------------- operands


def check_reduction(reduction: str, op: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    if reduction not in allowed:
        raise ValueError(f"[{op}] expected reduction {', '.join(map(repr, allowed))}, got {reduction!r}")


def tensor_operand(x: Any, op: str, name: str) -> Tensor:
    """A tensor; TypeError for anything that is not one."""
    if not isinstance(x, Tensor):
        raise TypeError(f"[{op}] expected {name} as a tensor, got {type(x).__name__}")
    return x


def floating_operand(x: Any, op: str, name: str) -> Tensor:
    """A tensor of floating dtype; TypeError for others."""
    x = tensor_operand(x, op, name)
    if not x.dtype.is_floating_point:
        raise TypeError(f"[{op}] expected {name} of floating dtype, got {x.dtype}")
    return x


def operand_of(x: Any, shape: tuple[int, ...], dtype: Any, op: str, name: str) -> Tensor:
    """A tensor of this shape, in this dtype. ValueError for other shapes."""
    x = tensor_operand(x, op, name)
    if x.shape != shape:
        raise ValueError(f"[{op}] expected {name} of shape {shape}, got {x.shape}")
    return x if x.dtype is dtype else x.to(dtype)


def weights_of(w: Any, shape: tuple[int, ...], dtype: Any, op: str, name: str = "sample_weight") -> Tensor | None:
    """Weights of one shape and dtype, or None."""
    return None if w is None else operand_of(w, shape, dtype, op, name)


def of_rows(s: Tensor | None, shape: tuple[int, ...]) -> Any:
    """Weights of entries (N,), as a buffer, for everything in them: for each element of a shape (N, ...)."""
    if s is None:
        return None
    s = s.detach()
    if len(shape) > 1:
        s = expand(reshape(s, (-1,) + (1,) * (len(shape) - 1)), shape)
    return buffer_of(s, (math.prod(shape),))
