"""A native kernel on operands of its own: verified against its reference, then called again and again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastbp import _native
from fastbp.dtypes import BY_CODE, as_dtype
from fastbp.kernels import reference, tolerance


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
        """Check one call against the reference, from poisoned outputs; ArithmeticError if it is out of tolerance."""
        for name, value, buffer in self._written():
            if name in self.facts.outputs:
                _native.fill(np.nan if value.dtype.kind == "f" else 77, buffer)
        self.run()
        expected = [[v.copy() for v in x] if isinstance(x, list) else _copied(x) for x in self.values]
        getattr(reference, self.facts.name)(*expected)
        by_name = dict(self._arrays(expected))
        for name, value, buffer in self._written():
            wrong = tolerance.difference(self.facts.name, name, self.named, by_name[name], _read(buffer))
            if wrong:
                raise ArithmeticError(wrong)
            if name not in self.facts.outputs:
                _native.copy(_native.from_array(value), buffer)
        return self

    def outputs(self) -> list[np.ndarray]:
        """What the last call left in the operands that the kernel overwrites."""
        return [_read(buffer) for name, _, buffer in self._written() if name in self.facts.outputs]

    def _written(self) -> Iterator[tuple[str, np.ndarray, Any]]:
        """Label, first value and buffer of every operand that is written."""
        buffers = dict(self._arrays(self.operands))
        for label, value in self._arrays(self.values):
            if label.partition("[")[0] not in self.facts.inputs:
                yield label, value, buffers[label]

    def _arrays(self, values: list[Any]) -> Iterator[tuple[str, Any]]:
        for name, value in zip(self.facts.parameters, values):
            if isinstance(value, list):
                yield from ((f"{name}[{i}]", v) for i, v in enumerate(value))
            elif name in self.facts.operands and value is not None:
                yield name, value


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
    _native.copy(_native.from_array(value), buffer)
    return buffer


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _read(buffer: Any) -> np.ndarray:
    """The values of a buffer, whose memory itself is not handed out."""
    array = np.empty(buffer.shape, BY_CODE[buffer.dtype])
    _native.copy(buffer, _native.from_array(array))
    return array
