"""Parameter: a tensor that a module trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastbp.dtypes import as_dtype, float32
from fastbp.ops.common import new
from fastbp.tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor with `requires_grad=True` that a Module lists among its parameters once it is an attribute.

    `Parameter(data, requires_grad=True)` shares the memory of `data`.
    """

    __slots__ = ()

    def __init__(self, data: Tensor, requires_grad: bool = True) -> None:
        if not isinstance(data, Tensor):
            raise TypeError(
                f"[Parameter] expected data to be a Tensor, got {type(data).__name__}; use fastbp.tensor(data)"
            )
        super().__init__(data.buffer)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def empty(shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> Tensor:
    """An uninitialised tensor for a layer, float32 unless a dtype is given."""
    return new(shape, float32 if dtype is None else as_dtype(dtype)).to(device=device)


def widths_of(layer: str, hidden: Any) -> tuple[int, ...]:
    """Widths of hidden layers, checked to be a sequence of integers."""
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise TypeError(f"[{layer}] expected hidden as a sequence of widths, got {hidden!r}")
    widths = tuple(hidden)
    require_size(layer, 1, **{f"hidden[{i}]": width for i, width in enumerate(widths)})
    return widths


def require_size(layer: str, least: int = 0, **sizes: Any) -> None:
    """Refuses numbers of features that are no integers, or too small."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"[{layer}] expected {name} to be an int of at least {least}, got {value!r}")
