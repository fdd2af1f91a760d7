"""What a capture notes: calls of modules, operations, what they take, and the gradients that arrive."""

from __future__ import annotations

import weakref
from typing import Any

from fastbp.function import Function
from fastbp.graph.value import Value
from fastbp.nn.module import Module


class Scope:
    """One call of a module, or one backward pass that is itself recorded."""

    def __init__(self, parent: Scope | None, module: Module | None, kind: str, path: str) -> None:
        self.parent = parent
        self.module = None if module is None else weakref.ref(module)
        self.kind = kind  # the module's class
        self.path = path  # its dotted name within the outermost module; "" for that one
        self.label = path or kind  # what it is called in the picture

    @property
    def outermost(self) -> Scope:
        """The call of the outermost module that this one is part of."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope


class Arrival:
    """The gradient that a backward pass brought to a leaf or to an operation's outputs."""

    def __init__(self, time: int, number: int, values: list[Value | None]) -> None:
        self.time, self.number, self.values = time, number, values
        self.unhooked: list[
            Value | None
        ] = []  # for each value what it was before hooks changed it, None where none did
        # Of an operation, for each input: the local derivative where it is made of numbers, and what was sent there.
        self.local: list[Value | None] = []
        self.sent: list[Value | None] = []


class Leaf:
    """What an operation took that none made while the code ran: a tensor, or a number."""

    def __init__(self, time: int, kind: str, value: Value) -> None:
        self.time, self.kind, self.values = time, kind, [value]
        self.arrivals: list[Arrival] = []


class Operation:
    """A recorded call."""

    def __init__(self, time: int, made_by: type[Function], scope: Scope | None) -> None:
        self.time, self.function, self.scope = time, made_by, scope
        self.inputs: list[tuple[Leaf | Operation, int] | None] = []  # (where from, which output), None for no tensor
        self.values: list[Value | None] = []  # of the outputs
        self.detail: dict[str, Any] = {}  # dimensions, constants, …: what the node says of the call
        self.arrivals: list[Arrival] = []
