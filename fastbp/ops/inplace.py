"""Operations in place. They are not recorded: under recording they are refused for tensors that require grad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastbp.autograd import mode
from fastbp.ops import binary, random, unary
from fastbp.ops.common import as_operand, backend_of, broadcast_shape
from fastbp.ops.shape import clone, expand
from fastbp.tensor import Tensor, contiguous


def _writable(x: Tensor, op: str, *others: Any) -> None:
    if mode.enabled and any(isinstance(t, Tensor) and t.requires_grad for t in (x, *others)):
        raise RuntimeError(f"[{op}] expected tensors that do not require grad; change them in place under no_grad()")


def copy_(x: Tensor, source: Any) -> Tensor:
    """Copies source into x, broadcast and cast as needed."""
    source = as_operand(source, "copy_")
    _writable(x, "copy_", source)
    if not isinstance(source, Tensor):
        return fill_(x, source)
    source = source.detach().to(x.dtype)
    if source.shape != x.shape:
        if broadcast_shape("copy_", source.shape, x.shape) != x.shape:
            raise ValueError(f"[copy_] expected a source that broadcasts to {x.shape}, got {source.shape}")
        source = expand(source, x.shape)
    if source.buffer.same_storage(x.buffer):
        source = clone(source)  # the write must not change what is still to be read
    backend_of(x).copy(source.buffer, x.buffer)
    return x


def fill_(x: Tensor, value: Any) -> Tensor:
    """Sets every element to a number."""
    _writable(x, "fill_")
    backend_of(x).fill(value.item() if isinstance(value, Tensor) else value, x.buffer)
    return x


def zero_(x: Tensor) -> Tensor:
    """Sets every element to 0."""
    return fill_(x, 0)


def _from(operation: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """The in-place form of an operation whose result has the shape and dtype of its first operand."""

    def op(x: Tensor, *operands: Any) -> Tensor:
        _writable(x, name, *operands)
        y = operation(x.detach(), *[t.detach() if isinstance(t, Tensor) else t for t in operands])
        if y.shape != x.shape:
            raise ValueError(f"[{name}] expected operands that broadcast to {x.shape}, got a result of {y.shape}")
        if y.dtype.is_floating_point and not x.dtype.is_floating_point:
            raise TypeError(f"[{name}] expected a result that {x.dtype} can hold, got {y.dtype}")
        backend_of(x).copy(contiguous(y.to(x.dtype)), x.buffer)
        return x

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"{operation.__name__}, written into the tensor itself."
    return op


add_ = _from(lambda x, y, alpha=1: binary.add(x, y if alpha == 1 else y * alpha), "add_")
sub_ = _from(binary.sub, "sub_")
mul_ = _from(binary.mul, "mul_")
div_ = _from(binary.div, "div_")
pow_ = _from(binary.pow, "pow_")
clamp_ = _from(unary.clamp, "clamp_")


def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Fills x with uniform numbers in [low, high)."""
    _writable(x, "uniform_")
    return random.uniform_(x, low, high)


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fills x with normal numbers."""
    _writable(x, "normal_")
    return random.normal_(x, mean, std)


def augmented(in_place: Callable[..., Tensor], operation: Callable[..., Tensor]) -> Callable[..., Any]:
    """x += y: in place, except that what takes part in a recording is left alone and the result is a new tensor.

    RuntimeError for a leaf that requires grad, since its gradient would be lost.
    """

    def op(x: Tensor, y: Any) -> Tensor:
        if mode.enabled and (x.requires_grad or (isinstance(y, Tensor) and y.requires_grad)):
            if x.requires_grad and x.is_leaf:
                raise RuntimeError(
                    f"[{in_place.__name__}] expected no leaf that requires grad; change it under no_grad()"
                )
            return operation(x, y)
        return in_place(x, y)

    return op
