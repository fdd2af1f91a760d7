"""Nodes and edges of a picture, as plain data: what went forward and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastbp.graph.value import Value


@dataclass(slots=True, eq=False)
class Visit:
    """What a backward pass did at a node: downstream = upstream × local."""

    time: int  # when, among all that happened
    number: int  # of the pass, from 1
    upstream: tuple[Value | None, ...]  # the gradient of each output; of a leaf, all that arrived
    local: tuple[Value | None, ...] = ()  # for each input: ∂output/∂input, where it is made of numbers
    downstream: tuple[Value | None, ...] = ()  # for each input: the gradient sent there
    unhooked: tuple[Value | None, ...] = ()  # for each output: what had arrived, where a hook changed that to upstream


@dataclass(slots=True, eq=False)
class Edge:
    """The way of a value into an operation, and of the gradient back."""

    source: Node
    output: int  # which output of the source
    target: Node
    position: int  # which input of the target
    views: tuple[str, ...]  # what is seen of the value on the way: "ᵀ", "as (2, 1)", "as float64"
    local: str = ""  # ∂target/∂source in symbols, of an operation element by element
    gradient: str = ""  # what is sent back, in symbols

    @property
    def name(self) -> str:
        """The name of the value that goes this way."""
        return self.source.output_names[self.output]

    def sent(self, visit: Visit) -> Value | None:
        """What the target sent this way in one of its visits."""
        return visit.downstream[self.position] if self.position < len(visit.downstream) else None


@dataclass(slots=True, eq=False)
class Node:
    """An operation, or what one takes: an input, a parameter, a constant.

    `upstream`, `local` and `downstream` are those of the last backward pass that came by: the gradient that arrived,
    and for each input the local derivative and the gradient sent there, None where there is none (no gradient is asked
    for, or the local derivative is a rule and no numbers). `visits` has those of all passes. Of a node with several
    outputs `name`, `value` and `upstream` are those of the first, or of the one by whose name the picture was asked.
    """

    index: int
    name: str
    kind: str  # "operation", "input", "parameter" or "constant"
    operation: str  # the name of its Function; "" for what is no operation
    expression: str  # a × b
    words: str  # what the operation does to the gradient
    module: str  # the dotted name of the module that made it
    time: int
    values: tuple[Value | None, ...]  # of each output
    output_names: tuple[str, ...]
    inputs: list[Edge] = field(default_factory=list)
    uses: list[Edge] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    scope: Any = field(default=None, repr=False)  # the call of a module that made it
    output: int = 0  # of which value and upstream are

    def of_output(self, output: int) -> Node:
        """This node as seen from one of its outputs."""
        if output == self.output:
            return self
        return replace(self, name=self.output_names[output], output=output)

    @property
    def label(self) -> str:
        """The names of all outputs: u, v."""
        return ", ".join(self.output_names)

    @property
    def value(self) -> Value | None:
        """What it held, or computed."""
        return self.values[self.output]

    @property
    def upstream(self) -> Value | None:
        """The gradient that arrived: the sum of what was sent here."""
        return self.visits[-1].upstream[self.output] if self.visits else None

    @property
    def local(self) -> tuple[Value | None, ...]:
        return self.visits[-1].local if self.visits else ()

    @property
    def downstream(self) -> tuple[Value | None, ...]:
        return self.visits[-1].downstream if self.visits else ()

    def arrivals(self, visit: Visit) -> list[tuple[Edge, Value]]:
        """What was sent to the output, along each edge, in the pass of a visit."""
        found = []
        for edge in self.uses:
            if edge.output != self.output:
                continue
            for other in edge.target.visits:
                if other.number == visit.number and (value := edge.sent(other)) is not None:
                    found.append((edge, value))
        return found

    def unhooked(self, visit: Visit) -> Value | None:
        """What had arrived where a hook changed it; None where none did."""
        return visit.unhooked[self.output] if visit.unhooked else None

    def hook(self, visit: Visit) -> str:
        """What a hook made of what had arrived, "hook: 12 → 120"; "" where none changed it."""
        before, after = self.unhooked(visit), visit.upstream[self.output]
        return f"hook: {before.brief()} → {after.brief()}" if before is not None and after is not None else ""

    def parts(self, visit: Visit) -> list[Value]:
        """What was sent here, where that makes up what arrived: nothing, where some came from elsewhere."""
        sent = [value for _, value in self.arrivals(visit)]
        arrived = self.unhooked(visit) or visit.upstream[self.output]
        arrays = [value.array for value in sent if value.array is not None]
        if arrived is None or arrived.array is None or len(arrays) < len(sent):
            return []
        total = np.sum(arrays, axis=0) if arrays else None
        close = total is not None and np.allclose(total, arrived.array, rtol=1e-5, atol=1e-30, equal_nan=True)
        return sent if close else []

    def __repr__(self) -> str:
        return f"<{self.kind} {self.label}{f' = {self.expression}' if self.operation else ''}>"
