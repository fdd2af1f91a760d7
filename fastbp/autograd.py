"""The tape: nodes, reverse-mode differentiation over them, and whether operations are recorded.

This file knows nodes, not tensors and not operations. A node has

    edges      for each input, (node, output position) where its gradient goes, or None
    sequence   a number that grows as nodes are made, so that descending order visits a node before its inputs
    outputs    how many outputs it has
    hooks      None, or something: then arrive(gradients of the outputs) may change that list before `run`
    run(gradients of the outputs) -> gradients of the inputs
    release()  gives up what was saved for `run`

A leaf is a node without edges whose `run` keeps the gradient. Gradients are anything with `+`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVar

from fastbp._native import Mode

F = TypeVar("F", bound=Callable[..., Any])


class Node(Protocol):
    edges: Sequence[tuple[Any, int] | None]
    sequence: int
    outputs: int
    hooks: Any

    def arrive(self, gradients: list[Any]) -> None: ...

    def run(self, gradients: list[Any]) -> Iterable[Any]: ...

    def release(self) -> None: ...


mode = Mode()  # of this thread: mode.enabled is whether operations are recorded
next_sequence = itertools.count().__next__


class set_grad_enabled:
    """Turns recording on or off in this thread at once; as a context manager, until the block is left."""

    def __init__(self, enabled: bool) -> None:
        self.previous, mode.enabled = mode.enabled, bool(enabled)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        mode.enabled = self.previous


class _Switch:
    """A recording mode for a block or, as a decorator, for a function."""

    enabled: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        return self(function) if function is not None else self

    def __enter__(self) -> None:
        # A stack, since one object may be entered again before it is left.
        self.__dict__.setdefault("previous", []).append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exception: object) -> None:
        mode.enabled = self.__dict__["previous"].pop()

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_Switch):
    """Nothing is recorded inside: `with no_grad():` or `@no_grad()`. Holds for the calling thread."""

    enabled = False


class enable_grad(_Switch):
    """Operations are recorded inside, even within `no_grad`."""

    enabled = True


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.enabled


Edge = tuple[Any, int]  # (node, output position)


def backward(
    edges: Iterable[Edge | None],
    gradients: Iterable[Any],
    retain_graph: bool = False,
    create_graph: bool = False,
    visit: Callable[[Any, list[Any]], bool] | None = None,
) -> None:
    """Sends gradients along edges (node, output position) to every leaf that the nodes depend on.

    With v̄ = ∂L/∂v, a node y = f(x) adds v̄ᵀ·∂f/∂x to each input's gradient; nodes are visited in descending sequence, so
    that all contributions have arrived. Iterative: depth is bounded by memory alone. Leaves come last, so that an error
    on the way leaves their gradients as they were. Unless `retain_graph`, each node gives up what it saved.
    visit(node, gradients of its outputs): called before each node, which runs only where it returns True.
    """
    # The nodes that gradients have reached, by sequence, or id for leaves, with what has arrived at their outputs.
    reached: dict[int, tuple[Node, list[Any]]] = {}
    waiting: list[int] = []  # a heap of negated sequences
    previous, mode.enabled = mode.enabled, create_graph
    try:
        while True:
            for edge, gradient in zip(edges, gradients):
                if edge is None or gradient is None:
                    continue
                node, position = edge
                key = node.sequence
                leaf = key < 0
                if leaf:
                    key = id(node)
                found = reached.get(key)
                if found is None:
                    found = reached[key] = node, [None] * node.outputs
                    if not leaf:
                        heappush(waiting, -key)
                arrived = found[1]
                present = arrived[position]
                arrived[position] = gradient if present is None else present + gradient
            if not waiting:
                break
            node, arrived = reached.pop(-heappop(waiting))
            if node.hooks is not None:
                node.arrive(arrived)
            if visit is not None and not visit(node, arrived):
                edges = ()
                continue
            edges, gradients = node.edges, node.run(arrived)
            if not retain_graph:
                node.release()
        for node, arrived in reached.values():  # only leaves are left
            if node.hooks is not None:
                node.arrive(arrived)
            if visit is None or visit(node, arrived):
                node.run(arrived)
    finally:
        mode.enabled = previous


def gradients_at(
    targets: Sequence[Edge],
    edges: Sequence[Edge],
    gradients: Sequence[Any],
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Any]:
    """What arrives at the targets (node, output position) from gradients sent along edges; None where nothing does.

    No leaf keeps a gradient, and no node runs that leads to no target.
    """
    found: list[Any] = [None] * len(targets)
    places: dict[int, list[tuple[int, int]]] = {}
    for i, (node, position) in enumerate(targets):
        places.setdefault(id(node), []).append((position, i))
    leading = _leading_to({id(node) for node, _ in targets}, edges, min(node.sequence for node, _ in targets))

    def visit(node: Any, arrived: list[Any]) -> bool:
        for position, i in places.get(id(node), ()):
            found[i] = arrived[position]
        return id(node) in leading

    backward(edges, gradients, retain_graph, create_graph, visit)
    return found


def _leading_to(targets: set[int], edges: Iterable[Edge], lowest: int) -> set[int]:
    """The ids of nodes, reached from edges, that have a target before them; lowest: the least sequence of a target."""
    seen: dict[int, Any] = {}
    rest = [node for node, _ in edges]
    while rest:
        node = rest.pop()
        if id(node) not in seen and node.sequence >= lowest:
            seen[id(node)] = node
            rest += [edge[0] for edge in node.edges if edge is not None]
    leading: set[int] = set()
    for node in sorted(seen.values(), key=lambda node: node.sequence):  # inputs before what is made from them
        if any(edge is not None and (id(edge[0]) in targets or id(edge[0]) in leading) for edge in node.edges):
            leading.add(id(node))
    return leading
