"""The tape: nodes, reverse-mode differentiation over them, and whether operations are recorded.

This file knows nodes, not tensors and not operations. A node has

    edges      for each input, (node, output position) where its gradient goes, or None
    sequence   a number that grows as nodes are made, so that descending order visits a node before its inputs
    outputs    how many outputs it has
    run(gradients of the outputs) -> gradients of the inputs
    release()  gives up what was saved for `run`

A leaf is a node without edges whose `run` keeps the gradient. Gradients are anything with `+`.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Node(Protocol):
    edges: Sequence[tuple[Any, int] | None]
    sequence: int
    outputs: int

    def run(self, gradients: list[Any]) -> Iterable[Any]: ...

    def release(self) -> None: ...


class _Mode(threading.local):
    enabled = True


mode = _Mode()
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


def backward(roots: Iterable[tuple[Node, int, Any]], retain_graph: bool = False, create_graph: bool = False) -> None:
    """Sends gradients from the roots (node, output position, gradient) to every leaf that they depend on.

    With v̄ = ∂L/∂v, a node y = f(x) adds v̄ᵀ·∂f/∂x to each input's gradient; nodes are visited in descending sequence, so
    that all contributions have arrived. Iterative: depth is bounded by memory alone. Leaves come last, so that an error
    on the way leaves their gradients as they were. Unless `retain_graph`, each node gives up what it saved.
    """
    arrived: dict[int, list[Any]] = {}

    def add(node: Node, position: int, gradient: Any) -> None:
        gradients = arrived.get(id(node))
        if gradients is None:
            gradients = arrived[id(node)] = [None] * node.outputs
        present = gradients[position]
        gradients[position] = gradient if present is None else present + gradient

    roots = list(roots)
    order = _reachable(node for node, _, _ in roots)
    previous, mode.enabled = mode.enabled, create_graph
    try:
        for node, position, gradient in roots:
            add(node, position, gradient)
        for node in order:
            gradients = arrived.pop(id(node), None)
            if gradients is None:
                continue
            for edge, gradient in zip(node.edges, node.run(gradients)):
                if edge is not None and gradient is not None:
                    add(*edge, gradient)
            if not retain_graph:
                node.release()
    finally:
        mode.enabled = previous


def _reachable(roots: Iterable[Node]) -> list[Node]:
    """All nodes that the roots depend on, each before its inputs."""
    seen: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        stack.extend(edge[0] for edge in node.edges if edge is not None)
    return sorted(seen.values(), key=lambda node: node.sequence, reverse=True)
