"""Arguments and results taken apart: tensors on one side, everything else, which a program freezes, on the other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from fastbp.tensor import Tensor


class Same:
    """A key that equals only itself, for an object that cannot be hashed."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def flatten(value: Any, leaves: list[Any]) -> Hashable:
    """Appends the tensors and arrays in a value of nested tuples, lists and dicts; returns a key of all the rest."""
    kind = type(value)
    if isinstance(value, (Tensor, np.ndarray)):
        leaves.append(value)
        return Tensor
    if kind in (tuple, list) or hasattr(value, "_fields"):
        return kind, *[flatten(entry, leaves) for entry in value]
    if kind is dict:
        return dict, *[(name, flatten(entry, leaves)) for name, entry in value.items()]
    if isinstance(value, (float, np.floating)):
        return kind, float(value).hex()  # tells -0.0 from 0.0, and finds nan again
    try:
        hash(value)
    except TypeError:
        return Same(value)
    return kind, value


def rebuild(value: Any, leaves: Sequence[Any]) -> Any:
    """The value with its tensors, in the order of `flatten`, replaced."""
    left = iter(leaves)

    def rebuilt(value: Any) -> Any:
        kind = type(value)
        if isinstance(value, (Tensor, np.ndarray)):
            return next(left)
        if hasattr(value, "_fields"):
            return kind(*[rebuilt(entry) for entry in value])
        if kind in (tuple, list):
            return kind(rebuilt(entry) for entry in value)
        if kind is dict:
            return {name: rebuilt(entry) for name, entry in value.items()}
        return value

    return rebuilt(value)
