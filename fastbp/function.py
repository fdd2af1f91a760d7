"""Function: the differentiable operation, whose recorded calls are the nodes of the tape."""

from __future__ import annotations

from typing import Any

from fastbp import autograd
from fastbp.autograd import mode
from fastbp.tensor import Tensor, filled


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
    needs_input_grad: tuple[bool, ...] = ()
    recording = False  # whether this call becomes a node, so that what backward needs is worth keeping
    edges: tuple[Any, ...] = ()
    sequence = 0
    outputs = 1
    _saved: tuple[Any, ...] | None = ()
    _versions: tuple[int, ...] = ()
    _without_gradient: tuple[Tensor, ...] = ()

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        raise TypeError("[Function] expected a subclass that defines forward")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise TypeError("[Function] expected a subclass that defines backward")

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """Runs forward; records the call when a gradient may be asked of it."""
        ctx = cls()
        if not mode.enabled:
            return cls.forward(ctx, *inputs)
        needs = tuple([isinstance(x, Tensor) and x._requires_grad for x in inputs])
        ctx.needs_input_grad = needs
        if True not in needs:
            return cls.forward(ctx, *inputs)
        ctx.recording = True
        mode.enabled = False
        try:
            result = cls.forward(ctx, *inputs)
        finally:
            mode.enabled = True
        ctx.edges = tuple(
            [((x, 0) if x._node is None else (x._node, x._index)) if n else None for x, n in zip(inputs, needs)]
        )
        return ctx._record(inputs, result)

    def _record(self, inputs: tuple[Any, ...], result: Any) -> Any:
        """Makes this node the origin of its outputs and fixes what was saved."""
        single = isinstance(result, Tensor)
        results = [result] if single else list(result)
        self.sequence = autograd.next_sequence()
        self.outputs = len(results)
        self.retained: dict[int, Any] = {}
        self.made = tuple([(y.buffer.shape, y.dtype) if isinstance(y, Tensor) else None for y in results])
        for i, y in enumerate(results):
            if (
                not isinstance(y, Tensor)
                or not y.dtype.is_floating_point
                or any(y is t for t in self._without_gradient)
            ):
                continue
            if y._node is not None or any(y is x for x in inputs):
                y = results[i] = Tensor(y.buffer)
            y._node, y._index, y._requires_grad = self, i, True
        if self._saved:
            # An own output is kept as (buffer, position): a reference to it would be a cycle.
            saved = self._saved
            self._versions = tuple([-1 if t is None else t.buffer.version for t in saved])
            self._saved = tuple([(t.buffer, t._index) if t is not None and t._node is self else t for t in saved])
        return results[0] if single else tuple(results)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for backward, where `saved_tensors` returns them; changing one in place is noticed there."""
        self._saved = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Declares outputs that have no gradient."""
        self._without_gradient = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What save_for_backward kept. RuntimeError after release, and when a value was changed in place since."""
        if self._saved is None:
            raise RuntimeError(
                f"[backward] the graph through {type(self).__name__} was already released; "
                "pass retain_graph=True to the first backward to go through it again"
            )
        tensors = []
        for saved, version in zip(self._saved, self._versions):
            if type(saved) is tuple:
                buffer, index = saved
                saved = Tensor(buffer)
                saved._node, saved._index, saved._requires_grad = self, index, True
            if saved is not None and saved.buffer.version != version:
                raise RuntimeError(f"[backward] a tensor that {type(self).__name__} saved was changed in place since")
            tensors.append(saved)
        return tuple(tensors)

    def run(self, gradients: list[Any]) -> Any:
        """Gradients of the inputs, from those of the outputs; called by the tape."""
        for i, made in enumerate(self.made):
            if gradients[i] is None and made is not None:
                gradients[i] = filled(made[0], 0.0, made[1])
        if self.retained:
            self._retain(gradients)
        results = self.backward(self, *gradients)
        if type(results) is not tuple:
            results = (results,)
        if len(results) != len(self.edges):
            raise RuntimeError(
                f"[{type(self).__name__}] expected {len(self.edges)} gradients from backward, got {len(results)}"
            )
        for edge, gradient in zip(self.edges, results):
            if edge is not None and gradient is not None:
                target, index = edge
                shape = target.shape if isinstance(target, Tensor) else target.made[index][0]
                if gradient.buffer.shape != shape:
                    op = type(self).__name__
                    raise RuntimeError(f"[{op}] expected backward to give shape {shape}, got {gradient.shape}")
        if self.fresh:
            return results
        # What was passed on may be somebody else's too: a leaf, which keeps it, gets a copy.
        return [
            g.clone() if e is not None and g is not None and isinstance(e[0], Tensor) else g
            for e, g in zip(self.edges, results)
        ]

    def _retain(self, gradients: list[Any]) -> None:
        for i, reference in self.retained.items():
            kept = reference()
            if kept is not None:
                kept.grad = gradients[i].clone() if kept.grad is None else kept.grad + gradients[i]

    def release(self) -> None:
        """Gives up what was saved; a later backward through this node is refused where it needs it."""
        if self._saved:
            self._saved = None
