"""A native kernel on operands of its own: verified against its reference, then called again and again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastbp import _native
from fastbp.dtypes import as_dtype
from fastbp.kernels import checker, reference
from fastbp.kernels.calls import window


class Out(NamedTuple):
    """An operand that the kernel overwrites; dtype None is that of the call."""

    shape: tuple[int, ...]
    dtype: str | None = None


class KernelCall:
    """A call of the native kernel `name` with these values, in the order of its signature.

    Arrays are copied into memory that fastbp allocates: memory shared with an array could change unseen, and nothing
    that was derived from it may be kept. Outputs are allocated once. `run` is the bare call.
    """

    def __init__(self, name: str, *values: Any, dtype: str = "float32") -> None:
        self.facts = getattr(reference, name).facts
        self.values = [_array(value, dtype) for value in values]
        self.operands = [_buffer(value) for value in self.values]
        self.named = dict(zip(self.facts.parameters, self.values, strict=True))
        self.run: Callable[[], Any] = functools.partial(getattr(_native, name), *self.operands)

    @property
    def operations(self) -> int:
        return self.facts.operations(**self.named)

    @property
    def bytes(self) -> int:
        """Bytes read plus bytes written."""
        return self.facts.bytes(**self.named)

    def verify(self) -> KernelCall:
        """Check one call against the reference, from poisoned outputs; CheckError if it is out of tolerance."""
        getattr(checker.checked_native, self.facts.name)(*self.operands)
        for name, value, operand in zip(self.facts.parameters, self.values, self.operands):
            if name in self.facts.inplace:  # starts again from its values
                _fill(operand, value)
        return self

    def outputs(self) -> list[np.ndarray]:
        """What the last call left in the operands that the kernel overwrites."""
        operands = zip(self.facts.parameters, self.operands)
        return [window(x).copy() for name, x in operands if name in self.facts.outputs and x is not None]


def _array(value: Any, dtype: str) -> Any:
    if isinstance(value, Out):
        return np.zeros(value.shape, value.dtype or dtype)
    return [_array(v, dtype) for v in value] if isinstance(value, list) else value


def _buffer(value: Any) -> Any:
    if isinstance(value, list):
        return [_buffer(v) for v in value]
    if not isinstance(value, np.ndarray):
        return value
    buffer = _native.empty(value.shape, as_dtype(value.dtype).code)
    _fill(buffer, value)
    return buffer


def _fill(operand: Any, value: Any) -> None:
    if isinstance(value, list):
        for x, v in zip(operand, value):
            _fill(x, v)
    elif value is not None:
        _native.copy(_native.from_array(value), operand)
