"""What is noted while code runs: operations, the tensors that go in, the gradients that come back, in their order.

Nothing here is a tensor's memory: values are copied or summed up at once, tensors and nodes are known by weak
references, so that a picture neither changes with what happens later nor keeps anything alive.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastbp import autograd, function, kernels
from fastbp._native import RecordingError
from fastbp.autograd import mode
from fastbp.function import Node
from fastbp.graph.local import is_elementwise, rule_of
from fastbp.graph.notes import Arrival, Leaf, Operation, Scope
from fastbp.graph.value import Value, note, of_number
from fastbp.kernels.storage import empty
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter
from fastbp.tensor import Tensor, filled
from fastbp.watching import Watch, watched


class Capture:
    """The notes of one block of code, which runs in one thread."""

    def __init__(self, elements: int, begin: Callable[[], Any] | None = None) -> None:
        self.elements = elements
        self.begin = begin  # called once, when the first operation is noted
        self.items: list[Leaf | Operation] = []  # in order of time
        self.passes = 0
        self.scopes: list[Scope] = []  # of the modules that are being called
        self.outermost: list[Scope] = []  # calls of modules from outside of others
        self.scopes_seen: list[Scope] = []  # all calls
        self._time = 0
        self._depth = 0  # of backward passes, one within another
        self._leaves: dict[int, tuple[Any, tuple[Any, ...], list[Leaf]]] = {}  # by id: (reference, state, its leaves)
        self._nodes: dict[int, tuple[Any, Operation]] = {}  # by id: (reference, operation)
        self._earlier: dict[tuple[int, int], tuple[Any, Leaf]] = {}  # results from before, by id of node and position
        self._paths: dict[int, tuple[Any, str]] = {}  # by id of a module: its name within the outermost one
        self._owned: dict[int, tuple[Any, Scope, str]] = {}  # by id of a parameter: (reference, outermost, name)
        self._unhooked: list[Value | None] = []  # of the node that the pass has come to
        self._last: tuple[Operation, Node] | None = None  # whose node is still to be told what backward needs

    # ------------------------------------------------------------ forward

    def operation(self, node: Node, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Notes a new node."""
        self._settle()
        if self.begin is not None:
            self.begin()
            self.begin = None
        sources = [self._source(x) for x in inputs]
        noted = Operation(self._tick(), node.function, self.scopes[-1] if self.scopes else None)
        noted.inputs = sources
        noted.values = [self._note(y) if isinstance(y, Tensor) else None for y in outputs]
        self.items.append(noted)
        self._nodes[id(node)] = weakref.ref(node), noted
        self._last = noted, node

    def _settle(self) -> None:
        """Reads what the last node was told after it was noted."""
        if self._last is not None:
            noted, node = self._last
            noted.detail = {name: value for name, value in vars(node).items() if _is_plain(value)}
            self._last = None

    def _source(self, x: Any) -> tuple[Leaf | Operation, int] | None:
        if isinstance(x, Tensor):
            made = self.made(x)
            if made is not None:
                return made, x._index
            return self._leaf(x), 0
        if isinstance(x, (float, int)) and not isinstance(x, bool):
            return self._new_leaf("number", of_number(x)), 0
        return None

    def _leaf(self, x: Tensor) -> Leaf:
        """The leaf that stands for a tensor, another one after its values were changed."""
        state = x.buffer.data_ptr, x.buffer.version
        known = self._leaves.get(id(x))
        leaves = known[2] if known is not None and known[0]() is x else []
        if leaves and known is not None and known[1] == state:
            return leaves[-1]
        kind = "constant"
        if isinstance(x, Parameter):
            kind = "parameter"
        elif x._requires_grad:
            kind = "input"
        leaf = self._new_leaf(kind, self._note(x))
        self._leaves[id(x)] = weakref.ref(x), state, [*leaves, leaf]
        if x._node is not None:
            self._earlier[id(x._node), x._index] = weakref.ref(x._node), leaf
        return leaf

    def _new_leaf(self, kind: str, value: Value) -> Leaf:
        leaf = Leaf(self._tick(), kind, value)
        self.items.append(leaf)
        return leaf

    def _note(self, x: Tensor) -> Value:
        return note(_elements(x), self.elements)

    def _tick(self) -> int:
        self._time += 1
        return self._time

    # ------------------------------------------------------------ modules

    @contextmanager
    def inside(self, module: Module) -> Iterator[None]:
        """What is noted belongs to a call of this module."""
        outer = self.scopes[-1] if self.scopes else None
        if outer is None:
            self._paths = {id(m): (weakref.ref(m), name) for name, m in module.named_modules()}
        reference, path = self._paths.get(id(module), (None, ""))
        known = reference is not None and reference() is module
        scope = Scope(outer, module, type(module).__name__, path if known else "")
        if outer is None:
            self.outermost.append(scope)
            for name, t in (*module.named_parameters(), *module.named_buffers()):
                if (owner := self._owned.get(id(t))) is None or owner[0]() is not t:
                    self._owned[id(t)] = weakref.ref(t), scope, name
        with self._within(scope):
            yield

    @contextmanager
    def _within(self, scope: Scope) -> Iterator[None]:
        self.scopes.append(scope)
        self.scopes_seen.append(scope)
        try:
            yield
        finally:
            self.scopes.pop()

    # ------------------------------------------------------------ backward

    def backward(self, backward: Callable[..., None], *arguments: Any, **options: Any) -> None:
        """Runs a pass, noting what arrives. A pass within another is part of how that computes, and is not noted."""
        self._settle()
        if self._depth:
            self._depth += 1
            try:
                return backward(*arguments, **options)
            finally:
                self._depth -= 1
        edges, gradients, retain_graph, create_graph, visit = _pass_arguments(*arguments, **options)

        def observe(node: Any, arrived: list[Any]) -> bool:
            self._arrived(node, arrived)
            self._unhooked = []
            return visit is None or visit(node, arrived)

        self.passes += 1
        self._depth = 1
        outer = self.scopes[-1] if self.scopes else None
        try:
            with self._within(Scope(outer, None, "backward", "backward")):
                backward(edges, gradients, retain_graph, create_graph, observe)
        finally:
            self._depth = 0

    def arrive(self, arrive: Callable[[Any, list[Any]], None], node: Any, gradients: list[Any]) -> None:
        """Calls a node's hooks, noting the gradients that they change, also those changed in place."""
        if self._depth != 1 or not node.hooks:
            return arrive(node, gradients)
        before = [None if gradient is None else _elements(gradient) for gradient in gradients]
        arrive(node, gradients)
        self._unhooked = [
            None if x is None or np.array_equal(x, _elements(y), equal_nan=True) else note(x, self.elements)
            for x, y in zip(before, gradients)
        ]

    def _arrived(self, node: Any, arrived: list[Any]) -> None:
        """Notes the gradients of a node's outputs, of a leaf, or of a result that was made before."""
        if isinstance(node, Tensor):
            for leaf in self._leaves_of(node)[-1:]:
                self._add_arrival(leaf, arrived, self._unhooked)
            return
        noted = self._operation_of(node)
        if noted is not None:
            self._add_arrival(noted, arrived, self._unhooked)
            return
        for position, gradient in enumerate(arrived):
            earlier = self._earlier.get((id(node), position))
            if earlier is not None and earlier[0]() is node and gradient is not None:
                self._add_arrival(earlier[1], [gradient], self._unhooked[position : position + 1])

    def _add_arrival(self, noted: Leaf | Operation, arrived: list[Any], unhooked: list[Value | None]) -> None:
        values = [None if gradient is None else self._note(gradient) for gradient in arrived]
        noted.arrivals.append(Arrival(self._tick(), self.passes, values))
        noted.arrivals[-1].unhooked = unhooked

    def run(self, run: Callable[[Node, list[Any]], Sequence[Any]], node: Node, gradients: list[Any]) -> Sequence[Any]:
        """Runs a node, noting what it sends to its inputs and its local derivatives."""
        noted = self._operation_of(node) if self._depth == 1 else None
        if noted is None:
            return run(node, gradients)
        upstream = gradients[0]
        sent = run(node, gradients)
        arrival = noted.arrivals[-1]
        arrival.sent = [None if gradient is None else self._note(gradient) for gradient in sent]
        arrival.local = self._local(run, node, upstream, arrival.values[0], sent)
        return sent

    def _local(
        self, run: Any, node: Node, upstream: Tensor | None, noted: Value | None, sent: Sequence[Any]
    ) -> list[Value | None]:
        """∂y/∂x for each input, where it is made of numbers: of operations element by element, and of one number.

        The gradient that the rule gives where 1 arrives at each element. The code of users is not run a second time:
        there it is what was sent divided by what arrived.
        """
        nothing: list[Value | None] = [None] * len(sent)
        if node.outputs != 1 or upstream is None or noted is None:
            return nothing
        single = noted.size == 1
        if rule_of(node.function) is None:
            factor = noted.array.item() if single and noted.array is not None else 0.0
            if not math.isfinite(factor) or factor == 0:
                return nothing
            local = [None if dx is None else _elements(dx) / factor for dx in sent]
        else:
            if not (single or is_elementwise(node.function)):
                return nothing
            recorded, mode.enabled = mode.enabled, False
            try:
                ones = run(node, [filled(upstream.shape, 1.0, upstream.dtype)])
            finally:
                mode.enabled = recorded
            local = [None if dx is None else _elements(dx) for dx in ones]
        # A gradient summed over a broadcast dimension is no derivative of an element.
        return [
            note(array, self.elements) if array is not None and (single or array.shape == upstream.shape) else None
            for array in local
        ]

    def _operation_of(self, node: Any) -> Operation | None:
        known = self._nodes.get(id(node))
        return known[1] if known is not None and known[0]() is node else None

    # ------------------------------------------------------------ what tensors and modules were

    def made(self, x: Tensor) -> Operation | None:
        """The operation noted here that made a tensor."""
        return None if x._node is None else self._operation_of(x._node)

    def places_of(self, x: Tensor) -> list[tuple[Leaf | Operation, int]]:
        """What stands for a tensor: (operation, output position), or its leaves, one for each state of its memory."""
        made = self.made(x)
        return [(made, x._index)] if made is not None else [(leaf, 0) for leaf in self._leaves_of(x)]

    def _leaves_of(self, x: Tensor) -> list[Leaf]:
        known = self._leaves.get(id(x))
        return known[2] if known is not None and known[0]() is x else []

    def parameters(self) -> Iterator[tuple[Tensor, Scope, str]]:
        """The parameters and buffers of the modules that were called: (tensor, outermost call, dotted name)."""
        for reference, scope, name in self._owned.values():
            if (t := reference()) is not None:
                yield t, scope, name

    # ------------------------------------------------------------ begin and end

    @contextmanager
    def active(self) -> Iterator[None]:
        """Notes what this thread does until the block is left."""
        if kernels.recorder() is not None:
            raise RecordingError("a picture of its graph")
        if getattr(_thread, "capture", None) is not None:
            raise RuntimeError("[explain] expected one picture at a time, got a second one inside")
        composed = mode.composed
        with watched(_WATCHED):
            _thread.capture, mode.composed = self, True
            try:
                yield
            finally:
                _thread.capture, mode.composed = None, composed
                self._settle()


def _elements(x: Tensor) -> np.ndarray:
    """A copy of a tensor's elements, in which a dimension that only repeats them is one that repeats them, too.

    An array of the tensor's own memory would be a way to write to it: the engine would have to reckon with that for as
    long as the tensor lives, and keep no panels of it.
    """
    b = x.buffer
    shape = [1 if stride == 0 else n for n, stride in zip(b.shape, b.strides)]
    copy = empty(shape, b.dtype)
    kernels.of(x).copy(b.view(shape, b.strides) if tuple(shape) != b.shape else b, copy)
    array = np.asarray(copy)
    return array if array.shape == b.shape else np.broadcast_to(array, b.shape)


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a word, or a sequence of such."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (int, float, str, range))


def _pass_arguments(
    edges: Any, gradients: Any, retain_graph: bool = False, create_graph: bool = False, visit: Any = None
) -> tuple[Any, ...]:
    """The arguments of `autograd.backward`, with its defaults."""
    return edges, gradients, retain_graph, create_graph, visit


# ---------------------------------------------------------------- what is watched

_thread = threading.local()


def _note_operation(node: Node, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    if (capture := getattr(_thread, "capture", None)) is not None:
        capture.operation(node, inputs, outputs)


def _noting_run(run: Callable[..., Any]) -> Callable[..., Any]:
    def noted(node: Node, gradients: list[Any]) -> Any:
        capture = getattr(_thread, "capture", None)
        return run(node, gradients) if capture is None else capture.run(run, node, gradients)

    return noted


def _noting_arrive(arrive: Callable[..., None]) -> Callable[..., None]:
    def noted(node: Any, gradients: list[Any]) -> None:
        capture = getattr(_thread, "capture", None)
        if capture is None:
            arrive(node, gradients)
        else:
            capture.arrive(arrive, node, gradients)

    return noted


def _noting_backward(backward: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        capture = getattr(_thread, "capture", None)
        if capture is None:
            return backward(*arguments, **options)
        return capture.backward(backward, *arguments, **options)

    return noted


def _noting_call(call: Callable[..., Any]) -> Callable[..., Any]:
    def noted(module: Module, *args: Any, **kwargs: Any) -> Any:
        capture = getattr(_thread, "capture", None)
        if capture is None:
            return call(module, *args, **kwargs)
        with capture.inside(module):
            return call(module, *args, **kwargs)

    return noted


_WATCHED: tuple[Watch, ...] = (
    (function, "watchers", lambda watchers: [*watchers, _note_operation]),
    (Node, "run", _noting_run),
    (Node, "arrive", _noting_arrive),
    (Tensor, "arrive", _noting_arrive),
    (autograd, "backward", _noting_backward),
    (Module, "__call__", _noting_call),
)
