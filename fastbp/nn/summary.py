"""`fastbp.summary`: a model's layers in the order of their calls, with shapes, parameters, operations and memory."""

from __future__ import annotations

import functools
import html
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastbp import kernels
from fastbp.amounts import short, short_bytes
from fastbp.autograd import no_grad
from fastbp.dtypes import DType, as_dtype, float32
from fastbp.from_data import from_numpy
from fastbp.kernels.counter import Counter
from fastbp.nn.module import Module, structure_changed
from fastbp.ops.random import Generator, default_generator
from fastbp.tensor import Tensor, filled

_HEAD = "layer", "class", "input", "output", "parameters", "trainable", "operations", "activations"
_LEFT = 4  # columns of words; the others are numbers
Shape = tuple[int, ...]


class Layer(NamedTuple):
    """A call of a module, with all that it called; or a module with parameters that was not called.

    name: dotted, "" for the model itself. kind: its class. depth: how many calls it is inside of. inputs, outputs:
    shapes of the tensors among its arguments and results. parameters: elements of the parameters here and below, but
    for those of an earlier layer beside it (shared: how many those are); trainable: those with requires_grad.
    parameter_bytes: of the same. operations: of the forward pass, a multiply-add being two. activation_bytes: of the
    results that its kernels write; another view of memory takes none. bytes: read and written by its kernels.
    """

    name: str
    kind: str
    depth: int
    called: bool
    inputs: list[Shape]
    outputs: list[Shape]
    parameters: int
    shared: int
    trainable: int
    parameter_bytes: int
    operations: int
    activation_bytes: int
    bytes: int


class Summary:
    """The layers of a model; `print` shows them as a table, and so do notebooks. Made by `fastbp.summary`.

    layers: all of them, the model itself first, whatever the depth of the table. Totals are those of the first.
    """

    def __init__(self, layers: list[Layer], depth: int | None) -> None:
        self.layers = layers
        self.depth = depth

    @property
    def parameters(self) -> int:
        """Elements of all parameters, each counted once."""
        return self.layers[0].parameters

    @property
    def trainable(self) -> int:
        """Elements of the parameters with requires_grad."""
        return self.layers[0].trainable

    @property
    def parameter_bytes(self) -> int:
        """Memory of the parameters."""
        return self.layers[0].parameter_bytes

    @property
    def operations(self) -> int:
        """Operations of the forward pass, a multiply-add being two."""
        return self.layers[0].operations

    @property
    def activation_bytes(self) -> int:
        """Memory of all results of the forward pass: what training can need to keep for the backward pass at most."""
        return self.layers[0].activation_bytes

    def _rows(self) -> Iterator[tuple[Layer, list[str]]]:
        for layer in self.layers:
            if self.depth is None or layer.depth <= self.depth:
                counts = ["as above" if layer.shared and not layer.parameters else f"{layer.parameters:,}"]
                counts[0] += " + above" if layer.shared and layer.parameters else ""
                counts.append("" if counts[0] == "as above" else f"{layer.trainable:,}")
                work = [short(layer.operations), short_bytes(layer.activation_bytes)]
                seen = [_shapes(layer.inputs), _shapes(layer.outputs)] if layer.called else ["not called", ""]
                name = layer.name or "(model)"
                yield layer, [name, layer.kind, *seen, *counts, *(work if layer.called else ["", ""])]

    def _totals(self) -> list[str]:
        whole = self.layers[0]
        memory = short_bytes(whole.parameter_bytes)
        return [
            f"{whole.parameters:,} parameters, of which {whole.trainable:,} trainable: {memory}",
            f"{short(whole.operations)} operations in the forward pass, a multiply-add being two",
            f"{short_bytes(whole.activation_bytes)} of activations, {short_bytes(whole.bytes)} read and written",
        ]

    def __str__(self) -> str:
        rows = [list(_HEAD)]
        rows += [["  " * layer.depth + name, *rest] for layer, (name, *rest) in self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = []
        for row in rows:
            cells = [c.ljust(w) if i < _LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
            lines.append("  ".join(cells).rstrip())
        rule = "─" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, *self._totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Sequence[str], indent: int = 0) -> str:
            styles = [f"text-align: {'left' if i < _LEFT else 'right'}" for i in range(len(cells))]
            styles[0] += f"; padding-left: {0.5 + 1.5 * indent}em"
            shown = [f'<{tag} style="{style}">{html.escape(c)}</{tag}>' for style, c in zip(styles, cells)]
            return f"<tr>{''.join(shown)}</tr>"

        body = "\n".join(line("td", cells, layer.depth) for layer, cells in self._rows())
        totals = "<br>\n".join(map(html.escape, self._totals()))
        return f"<table>\n<thead>{line('th', _HEAD)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n<p>{totals}</p>"


def summary(
    model: Module, *inputs: Any, input_shape: Any = None, dtype: Any = None, depth: int | None = None
) -> Summary:
    """Run a model once and return its layers in the order of their calls, as a table and as numbers.

        print(fastbp.summary(model, (64, 784)))

    inputs: what the model is called with; a tuple of integers is a shape, of which a tensor of zeros is made, and
    arrays become tensors. input_shape: the same by name, a shape or a list of shapes; batch dimension included.
    dtype: of the zeros, one or a list; by default that of the model's first parameter, else float32. Indices, as an
    Embedding takes them, need int64. depth: how deep the table goes; 0 shows the model alone. Layers that are not shown
    are counted in those that hold them.

    The forward pass runs in eval mode, without gradients, on the kernels in use, and is counted by their facts.
    Afterwards attributes, buffers and random generators of the model are as they were. Raises TypeError for what is no
    Module, ValueError without inputs; what forward raises passes.
    """
    if not isinstance(model, Module):
        raise TypeError(f"[summary] expected a Module, got {type(model).__name__}")
    if kernels.recorder() is not None:
        raise RuntimeError("[summary] expected to be called outside of a compiled function, got a call inside")
    if depth is not None and not (isinstance(depth, int) and depth >= 0):
        raise ValueError(f"[summary] expected depth as an integer of at least 0, or None, got {depth!r}")
    arguments = _arguments(model, inputs, input_shape, dtype)
    counter = Counter(kernels.host())
    watch = _Watch(model, counter)
    with _untouched(model), no_grad():
        model.eval()
        watch.begin()
        with kernels.selected(counter):
            model(*arguments)
        return Summary(_layers(watch.names, watch.calls[0]), depth)


def _arguments(model: Module, inputs: tuple[Any, ...], input_shape: Any, dtype: Any) -> list[Any]:
    if bool(inputs) == (input_shape is not None):
        raise ValueError(f"[summary] expected inputs or input_shape, got {'both' if inputs else 'neither'}")
    if not inputs:
        inputs = (tuple(input_shape),) if _is_shape(input_shape) else tuple(input_shape)
        for shape in inputs:
            if not _is_shape(shape):
                raise ValueError(f"[summary] expected input_shape as a shape or a list of shapes, got {input_shape!r}")
    count = sum(map(_is_shape, inputs))
    kinds = list(dtype) if isinstance(dtype, (list, tuple)) else [dtype] * count
    if len(kinds) != count:
        raise ValueError(f"[summary] expected one dtype, or one for each of {count} shapes, got {len(kinds)}")
    if dtype is not None and not count:
        raise ValueError("[summary] expected shapes that the dtype is for, got none")
    left = iter([_default_dtype(model) if kind is None else as_dtype(kind) for kind in kinds])
    return [
        filled(tuple(x), 0, next(left)) if _is_shape(x) else from_numpy(x) if isinstance(x, np.ndarray) else x
        for x in inputs
    ]


def _is_shape(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and all(type(n) is int or isinstance(n, np.integer) for n in x)


def _default_dtype(model: Module) -> DType:
    return next((p.dtype for p in model.parameters()), float32)


# ---------------------------------------------------------------- while the model runs


@dataclass(eq=False)
class _Call:
    """A call of a module. counts: operations, bytes of results, bytes read and written."""

    module: Module
    inputs: list[Shape]
    outputs: list[Shape] = field(default_factory=list)
    counts: Sequence[int] = (0, 0, 0)
    inner: list[_Call] = field(default_factory=list)


class _Watch:
    """The calls of a model's modules in this thread, each with what the counter counted meanwhile."""

    def __init__(self, model: Module, counter: Counter) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.counter = counter
        self.thread = threading.get_ident()
        self.calls: list[_Call] = []  # of the model itself
        self.open: list[_Call] = []

    def begin(self) -> None:
        """Puts a watched method in the place of every forward. A hook would not see the end of one that raises."""
        for module in self.names:
            setattr(module, "forward", functools.partial(self._call, module, module.forward))  # noqa: B010

    def _call(self, module: Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        call = _Call(module, list(_tensor_shapes((args, kwargs))))
        (self.open[-1].inner if self.open else self.calls).append(call)
        self.open.append(call)
        before = self._counts()
        try:
            output = forward(*args, **kwargs)
            call.outputs = list(_tensor_shapes(output))
            return output
        finally:
            call.counts = [now - then for now, then in zip(self._counts(), before)]
            self.open.pop()

    def _counts(self) -> tuple[int, int, int]:
        return self.counter.operations, self.counter.results, self.counter.bytes


@contextmanager
def _untouched(model: Module) -> Iterator[None]:
    """Makes a model's attributes, buffers and random generators afterwards what they were, its modes among them."""
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    buffers = [(buffer, buffer.buffer.version, buffer.detach().clone()) for buffer in model.buffers()]
    owned = (value for _, own in attributes for value in own.values() if isinstance(value, Generator))
    random = [(generator, generator.get_state()) for generator in (default_generator, *owned)]
    try:
        yield
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)
        structure_changed()
        for buffer, version, values in buffers:
            if buffer.buffer.version != version:  # else a graph that has saved it need not notice
                with no_grad():
                    buffer.copy_(values)
        for generator, state in random:
            generator.set_state(state)


def _tensor_shapes(value: Any) -> Iterator[Shape]:
    if isinstance(value, Tensor):
        yield tuple(value.shape)
    elif isinstance(value, (tuple, list, dict)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _tensor_shapes(entry)


def _shapes(shapes: list[Shape]) -> str:
    return ", ".join(map(str, shapes))


# ---------------------------------------------------------------- what was seen


def _layers(names: dict[Module, str], call: _Call) -> list[Layer]:
    """The calls as rows: each before those inside of it, after which come its modules that nobody called."""
    called = {c.module for c in _walk(call)}
    idle: dict[Module, list[Module]] = {}  # by the innermost module around them that was called
    for module, name in names.items():
        if module not in called and any(True for _ in module._own_parameters()):
            around = [m for m, n in names.items() if m in called and (not n or name.startswith(n + "."))]
            idle.setdefault(max(around, key=lambda m: len(names[m])), []).append(module)
    counted: set[int] = set()  # by id: the parameters of the layers so far

    def row(module: Module, depth: int, parameters: Sequence[Tensor], seen: _Call | None) -> Layer:
        new = [p for p in parameters if id(p) not in counted]
        operations, results, moved = seen.counts if seen else (0, 0, 0)
        return Layer(
            name=names[module],
            kind=type(module).__name__,
            depth=depth,
            called=seen is not None,
            inputs=seen.inputs if seen else [],
            outputs=seen.outputs if seen else [],
            parameters=sum(p.numel() for p in new),
            shared=sum(p.numel() for p in parameters) - sum(p.numel() for p in new),
            trainable=sum(p.numel() for p in new if p.requires_grad),
            parameter_bytes=sum(p.nbytes for p in new),
            operations=operations,
            activation_bytes=results,
            bytes=moved,
        )

    def rows(call: _Call, depth: int) -> Iterator[Layer]:
        own = list(call.module.parameters())
        yield row(call.module, depth, own, call)
        for inner in call.inner:
            yield from rows(inner, depth + 1)
        for module in idle.pop(call.module, ()):
            parameters = [p for _, p in module._own_parameters()]
            yield row(module, depth + 1, parameters, None)
            counted.update(map(id, parameters))
        counted.update(map(id, own))

    return list(rows(call, 0))


def _walk(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inner:
        yield from _walk(inner)
