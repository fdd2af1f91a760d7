"""Activations as modules, derived from the operations: each element-wise operation and each softmax has its class here.

The class is named as PyTorch names it (relu → ReLU, leaky_relu → LeakyReLU); its constructor takes what the operation
takes after its tensor, with the same names and defaults. A new operation needs no line in this file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from fastbp import ops
from fastbp.nn.module import Module
from fastbp.ops.common import number_of
from fastbp.ops.unary import __all__ as ELEMENTWISE
from fastbp.tensor import Tensor

_SPELLING = {"relu": "ReLU", "silu": "SiLU", "logsigmoid": "LogSigmoid"}


class Activation(Module):
    """Base class of the derived modules: y = op(x, options). Options are attributes and may be changed."""

    op: ClassVar[Callable[..., Tensor]]
    options: ClassVar[inspect.Signature]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        try:
            given = self.options.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"[{type(self).__name__}] expected options {self.options}: {error}") from None
        given.apply_defaults()
        for name, value in given.arguments.items():
            if isinstance(self.options.parameters[name].default, float):
                number_of(value, type(self).__name__, name)
            setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        return self.op(input, *[getattr(self, name) for name in self.options.parameters])

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options.parameters)


def class_name(op_name: str) -> str:
    """relu → ReLU, gelu → GELU, leaky_relu → LeakyReLU, log_softmax → LogSoftmax."""

    def spell(word: str) -> str:
        return _SPELLING.get(word) or (word.upper() if word.endswith("lu") else word.capitalize())

    return "".join(map(spell, op_name.split("_")))


def derive(op: Callable[..., Tensor]) -> type[Activation]:
    """The module class of an operation on one tensor."""
    name = class_name(op.__name__)
    named = [p for p in inspect.signature(op).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    options = inspect.Signature(named[1:])
    members: dict[str, Any] = {
        "op": staticmethod(op),
        "options": options,
        "__doc__": op.__doc__,
        "__module__": __name__,
        "__signature__": options,
    }
    if not options.parameters:  # most of them, and the call is a good part of the cost on small tensors
        members["forward"] = lambda self, input: op(input)
    return type(name, (Activation,), members)


OPERATIONS: list[Callable[..., Tensor]] = [getattr(ops, name) for name in [*ELEMENTWISE, "softmax", "log_softmax"]]
_CLASSES = {cls.__name__: cls for cls in map(derive, OPERATIONS)}
globals().update(_CLASSES)
__all__ = ["Activation", *_CLASSES]

if TYPE_CHECKING:  # the derived names, for type checkers

    def __getattr__(name: str) -> type[Activation]: ...
