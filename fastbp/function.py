"""Nodes, which record how tensors were made: by `record` for the operations here, by Function for those of users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastbp.autograd import gradients_at, mode, next_sequence
from fastbp.dtypes import FLOATING_CODES
from fastbp.hooks import replaced
from fastbp.tensor import Tensor, filled

# Called with every new node, its inputs and its outputs, in any thread, while somebody draws graphs; empty otherwise.
watchers: list[Callable[[Any, Sequence[Any], Sequence[Any]], None]] = []


class Function:
    """A differentiable operation. Subclass it with two static methods and call `apply`:

        class Square(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, dy):
                (x,) = ctx.saved_tensors
                return 2 * x * dy

        y = Square.apply(x)

    `ctx` is the node that the call becomes: it may be given attributes, and has needs_input_grad, save_for_backward,
    saved_tensors, mark_non_differentiable. backward returns one gradient, or None, for every argument of forward.
    """

    # Whether backward makes every gradient that it returns, so that a leaf may keep it without a copy.
    fresh = False

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        raise TypeError("[Function] expected a subclass that defines forward")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise TypeError("[Function] expected a subclass that defines backward")

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """Runs forward; records the call when a gradient may be asked of it."""
        recorded = mode.enabled and any(isinstance(x, Tensor) and x._requires_grad for x in inputs)
        node = _node(cls, inputs if recorded else (None,) * len(inputs))
        if not recorded:
            return _checked(cls, cls.forward(node, *inputs))
        mode.enabled = False
        try:
            result = _checked(cls, cls.forward(node, *inputs))
        finally:
            mode.enabled = True
        node.input_dtypes = [x.dtype if isinstance(x, Tensor) else None for x in inputs]
        single = isinstance(result, Tensor)
        outputs = [result] if single else list(result)
        for i, y in enumerate(outputs):
            if isinstance(y, Tensor) and y.buffer.dtype in FLOATING_CODES and not _among(y, node.without_gradient):
                if y._node is not None or _among(y, inputs):
                    y = outputs[i] = Tensor(y.buffer)
                y._node, y._index, y._requires_grad = node, i, True
        node.outputs = len(outputs)
        node.shapes = [y.buffer.shape if isinstance(y, Tensor) else None for y in outputs]
        node.dtypes = [y.dtype if isinstance(y, Tensor) else None for y in outputs]
        # Once more, now that the own outputs among them are known by their node.
        node.save_for_backward(*[entry and entry[0] for entry in node.saved or ()])
        for watcher in watchers:
            watcher(node, inputs, outputs)
        return outputs[0] if single else tuple(outputs)


class Node:
    """A recorded call: the `ctx` of its Function, and for the tape what gives the gradients of its inputs.

    One class for all Functions, with slots: the interpreter is quick to find what every node has.
    """

    __slots__ = (
        "__dict__",  # what forward keeps for backward besides tensors
        "__weakref__",
        "dtypes",  # of each output, where there are several
        "edges",  # for each input: the (node, position) where its gradient goes, or None
        "function",
        "hooks",  # by key: (output position, what is called with its gradient)
        "input_dtypes",  # of tensors that code of users computes gradients of; None where it is the code here
        "outputs",
        "retained",  # weak references to outputs that keep their gradient, by position
        "saved",  # (tensor, version, -1) or for an own output, to avoid a cycle, (buffer, version, position)
        "sequence",
        "shapes",  # of each output
        "without_gradient",
    )

    dtypes: Sequence[Any]
    edges: list[tuple[Any, int] | None]  # true where a gradient is asked for
    function: type[Function]
    input_dtypes: Sequence[Any] | None
    hooks: dict[int, tuple[int, Callable[..., Any]]] | None
    outputs: int
    retained: dict[int, Any] | None
    saved: Sequence[tuple[Any, int, int] | None] | None  # None once released
    sequence: int
    shapes: Sequence[Any]
    without_gradient: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each input, whether its gradient is asked for."""
        return tuple([edge is not None for edge in self.edges])

    def input_shape(self, position: int) -> tuple[int, ...]:
        """The shape of an input whose gradient is asked for."""
        node, index = self.edges[position]  # type: ignore[misc]
        return node.buffer.shape if isinstance(node, Tensor) else node.shapes[index]

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for backward, where `saved_tensors` returns them; changing one in place is noticed there."""
        saved: list[tuple[Any, int, int] | None] = []
        for t in tensors:
            if t is None:
                saved.append(None)
            elif t._node is self:
                saved.append((t.buffer, t.buffer.version, t._index))
            else:
                saved.append((t, t.buffer.version, -1))
        self.saved = saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Declares outputs that have no gradient."""
        self.without_gradient = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What save_for_backward kept. RuntimeError after release, and when a value was changed in place since."""
        if self.saved is None:
            raise RuntimeError(
                f"[backward] the graph through {self.name} was already released; "
                "pass retain_graph=True to the first backward to go through it again"
            )
        tensors: list[Tensor | None] = []
        for entry in self.saved:
            if entry is None:
                tensors.append(None)
                continue
            saved, version, position = entry
            if position >= 0:
                saved = Tensor(saved)
                saved._node, saved._index, saved._requires_grad = self, position, True
            if saved.buffer.version != version:
                raise RuntimeError(f"[backward] a tensor that {self.name} saved was changed in place since")
            tensors.append(saved)
        return tuple(tensors)

    def run(self, gradients: list[Any]) -> Sequence[Any]:
        """Gradients of the inputs, from those of the outputs; called by the tape."""
        if self.outputs > 1:
            for i, dtype in enumerate(self.dtypes):
                if gradients[i] is None and dtype is not None:
                    gradients[i] = filled(self.shapes[i], 0.0, dtype)
        function = self.function
        results = function.backward(self, *gradients)
        if type(results) is not tuple:
            results = (results,)
        edges = self.edges
        if len(results) != len(edges):
            raise RuntimeError(f"[{self.name}] expected {len(edges)} gradients from backward, got {len(results)}")
        if self.input_dtypes is not None:
            self._check_dtypes(results)
        kept = []
        for edge, gradient in zip(edges, results):
            if edge is not None and gradient is not None:
                node, index = edge
                leaf = isinstance(node, Tensor)
                shape = node.buffer.shape if leaf else node.shapes[index]
                if gradient.buffer.shape != shape:
                    raise RuntimeError(f"[{self.name}] expected backward to give shape {shape}, got {gradient.shape}")
                if leaf and not function.fresh:
                    # What was passed on may be somebody else's too: a leaf, which keeps it, gets a copy.
                    gradient = gradient.clone()
            kept.append(gradient)
        return kept

    def _check_dtypes(self, gradients: Sequence[Any]) -> None:
        for edge, gradient, dtype in zip(self.edges, gradients, self.input_dtypes or ()):
            if edge is None or gradient is None:
                continue
            if not isinstance(gradient, Tensor):
                raise TypeError(f"[{self.name}] expected tensors from backward, got {type(gradient).__name__}")
            if gradient.dtype is not dtype:
                raise TypeError(f"[{self.name}] expected backward to give {dtype}, got {gradient.dtype}")

    def retain(self, position: int, output: Any) -> None:
        """Lets an output, given as a weak reference, keep its gradient."""
        self.retained = {**(self.retained or {}), position: output}
        self.hooks = self.hooks or {}

    def arrive(self, gradients: list[Any]) -> None:
        """Calls the hooks of the outputs, then lets those keep their gradients that were asked to."""
        for i, hook in list((self.hooks or {}).values()):
            if gradients[i] is not None:
                gradients[i] = replaced(gradients[i], hook)
        for i, reference in (self.retained or {}).items():
            kept = reference()
            if kept is not None and gradients[i] is not None:
                kept.grad = gradients[i].clone() if kept.grad is None else kept.grad + gradients[i]

    def release(self) -> None:
        """Gives up what was saved; a later backward through this node is refused where it needs it."""
        if self.saved:
            self.saved = None


def record(function: type[Function], inputs: tuple[Any, ...], y: Tensor) -> Any:
    """Makes y, new and computed from the inputs, the output of a node when a gradient may be asked of it.

    Returns that node, which still is to be told what backward needs; None when nothing is recorded.
    """
    for x in inputs:
        if isinstance(x, Tensor) and x._requires_grad and mode.enabled and y.buffer.dtype in FLOATING_CODES:
            break
    else:
        return None
    node = _node(function, inputs)
    node.shapes = (y.buffer.shape,)
    y._node, y._index, y._requires_grad = node, 0, True
    if watchers:
        for watcher in watchers:
            watcher(node, inputs, (y,))
    return node


def _node(function: type[Function], inputs: tuple[Any, ...]) -> Node:
    node = Node()
    node.function = function
    node.sequence = next_sequence()
    node.outputs = 1
    edges: list[tuple[Any, int] | None] = []
    for x in inputs:
        if isinstance(x, Tensor) and x._requires_grad:
            edges.append((x, 0) if x._node is None else (x._node, x._index))
        else:
            edges.append(None)
    node.edges = edges
    node.hooks = None
    node.input_dtypes = None
    node.retained = None
    node.saved = ()
    node.without_gradient = ()
    return node


class Alias(Function):
    """The same tensor, as a place of its own in the graph."""

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return dy


def alias(x: Tensor) -> Tensor:
    """x itself behind a node of its own, where gradients are recorded."""
    y = Tensor(x.buffer)
    record(Alias, (x,), y)
    return y


def composed_gradients(
    composition: Callable[..., Any], inputs: Sequence[Any], edges: Sequence[Any], *gradients: Tensor
) -> tuple[Any, ...]:
    """The gradients of a fused operation's inputs by way of the plain operations that it stands for.

    For a backward pass that is itself recorded: what comes out can be differentiated again.
    composition: computes the fused operation's outputs from its inputs. edges: those of the fused operation's node,
    None where no gradient is asked for. gradients: of its outputs.
    """
    if not any(edges):
        return (None,) * len(edges)
    own = [alias(x) if edge is not None else x for x, edge in zip(inputs, edges)]
    targets = [(x._node, 0) for x, edge in zip(own, edges) if edge is not None]
    result = composition(*own)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    ends = [(y._node, y._index) for y in outputs if y._node is not None]
    sent = [dy for y, dy in zip(outputs, gradients) if y._node is not None]
    found = iter(gradients_at(targets, ends, sent, retain_graph=True, create_graph=True))
    return tuple([None if edge is None else next(found) for edge in edges])


def _checked(function: type[Function], result: Any) -> Any:
    """What forward returned, where it is a tensor or several."""
    if not isinstance(result, (Tensor, tuple, list)):
        raise TypeError(f"[{function.__name__}] expected forward to return tensors, got {type(result).__name__}")
    return result


def _among(y: Tensor, tensors: tuple[Any, ...]) -> bool:
    return any(y is t for t in tensors)
