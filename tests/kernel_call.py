"""One call of a kernel with the operands of a case, each in memory of its own."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from cases import Case, Out
from memory import Operand, Place, aligned

from fastbp import _native
from fastbp.kernels import facts, reference

FACTS = {name: f.facts for name, f in facts.kernels(reference).items()}


class Call:
    """A call of a kernel that can be repeated: each operand in memory of its own, the inputs read-only."""

    def __init__(self, case: Case, dtype: str, values: list[Any], place: Place = aligned) -> None:
        self.facts = FACTS[case.kernel]
        self.read: dict[str, Operand] = {}
        self.written: dict[str, tuple[Operand, Any]] = {}  # with the values they start from
        self.arguments: list[Any] = []
        for name, value in zip(self.facts.parameters, values, strict=True):
            if isinstance(value, list):
                self.arguments.append([self.place(f"{name}[{i}]", name, v, dtype, place) for i, v in enumerate(value)])
            elif isinstance(value, (np.ndarray, Out)):
                self.arguments.append(self.place(name, name, value, dtype, place))
            else:
                self.arguments.append(value)

    def place(self, label: str, name: str, value: Any, dtype: str, place: Place) -> np.ndarray:
        operand = Operand(model(value, dtype), place)
        if name in self.facts.inputs:
            operand.fill(value)
            operand.array.flags.writeable = False
            self.read[label] = operand
        else:
            self.written[label] = operand, None if isinstance(value, Out) else value
        return operand.array

    def elements(self) -> int:
        """Elements of the largest operand."""
        operands = [*self.read.values(), *(operand for operand, _ in self.written.values())]
        return max((operand.array.size for operand in operands), default=0)

    def run(self, backend: ModuleType) -> dict[str, np.ndarray]:
        """The written operands after a call that starts from their first values, or from poison."""
        for operand, start in self.written.values():
            operand.fill(start)
        getattr(backend, self.facts.name)(*(as_buffers(a) for a in self.arguments))
        return {label: operand.array for label, (operand, _) in self.written.items()}

    def strayed(self) -> list[str]:
        """Inputs that were changed, and outputs around which memory was changed."""
        changed = [label for label, operand in self.read.items() if not operand.untouched()]
        return changed + [label for label, (operand, _) in self.written.items() if not operand.margin_untouched()]


def model(value: Out | np.ndarray, dtype: str) -> np.ndarray:
    """An array with the layout that an operand is to have."""
    return value if isinstance(value, np.ndarray) else value.layout(dtype)


def as_buffers(value: Any) -> Any:
    if isinstance(value, list):
        return [_native.from_array(v) for v in value]
    return _native.from_array(value) if isinstance(value, np.ndarray) else value


def describe(values: list[Any]) -> str:
    """Shapes and constants of a call, for messages."""
    return ", ".join(
        f"{len(v)} tensors" if isinstance(v, list) else str(v.shape) if isinstance(v, (np.ndarray, Out)) else repr(v)
        for v in values
    )
