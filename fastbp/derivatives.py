"""Derivatives of functions of tensors: gradients, Jacobians, Hessians and their products with vectors.

All but `grad` take a function and the point to differentiate at. `inputs` is a tensor or a tuple of tensors; what they
return for each input has the same form. The function is called once; results have no history unless create_graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastbp.autograd import enable_grad, gradients_at
from fastbp.function import alias
from fastbp.ops.shape import stack
from fastbp.tensor import Tensor, filled

__all__ = ["grad", "hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Σ ȳ·∂y/∂x for each input x, the gradients of the outputs y; `grad` of leaves stays as it is.

    outputs, inputs: tensors that require grad; inputs may be leaves or results on the way to the outputs.
    grad_outputs: ȳ for each output, of its shape and dtype; None stands for 1, where the output is one number.
    retain_graph: keep what the graph saved, for another pass (default: create_graph).
    create_graph: record this pass too, so that the gradients can be differentiated.
    allow_unused: give None for an input that no output depends on, where else a RuntimeError is raised.
    Raises RuntimeError for tensors without history, ValueError for gradients that do not fit.
    """
    ys, xs = _tensors(outputs, "grad", "outputs"), _tensors(inputs, "grad", "inputs")
    if not xs:
        raise ValueError("[grad] expected at least one input, got none")
    for name, tensors in (("output", ys), ("input", xs)):
        for i, t in enumerate(tensors):
            if not t.requires_grad:
                raise RuntimeError(f"[grad] expected tensors that require grad, got {name} {i} without")
    given = [None] * len(ys) if grad_outputs is None else grad_outputs
    given = [given] if isinstance(given, Tensor) else list(given)
    if len(given) != len(ys):
        raise ValueError(f"[grad] expected {len(ys)} grad_outputs, one for each output, got {len(given)}")
    sent = [_upstream(y, dy, f"grad_outputs[{i}]") for i, (y, dy) in enumerate(zip(ys, given))]
    keep = create_graph if retain_graph is None else retain_graph
    found = gradients_at([_edge(x) for x in xs], [_edge(y) for y in ys], sent, keep, create_graph)
    for i, gradient in enumerate(found):
        if gradient is None and not allow_unused:
            raise RuntimeError(
                f"[grad] expected outputs that depend on every input, got none that depends on input {i}; "
                "allow_unused=True gives None for it"
            )
    return tuple(found)


def vjp(function: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(f(x), vᵀ·J): the function's value, and the vector-Jacobian product, J = ∂f/∂x.

    v: of the shape of each output; may be left out where f gives one number, for 1.
    """
    xs, ys, forms = _evaluated(function, inputs, create_graph, "vjp")
    products = _gradients(ys, xs, _vectors(v, ys, "vjp", "output"), create_graph)
    return forms.outputs(_results(ys, create_graph)), forms.inputs(_results(products, create_graph))


def jvp(function: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(f(x), J·v): the function's value, and the Jacobian-vector product, J = ∂f/∂x.

    vᵀ·J is linear in v, and J·v the derivative of that: two passes backward.
    v: of the shape of each input; may be left out where x is one number, for 1.
    """
    xs, ys, forms = _evaluated(function, inputs, create_graph, "jvp")
    directions = _vectors(v, xs, "jvp", "input")
    probes = [filled(y.shape, 0.0, y.dtype).requires_grad_() for y in ys]
    products = _gradients(ys, xs, probes, True)
    slopes = _gradients(products, probes, directions, create_graph)
    return forms.outputs(_results(ys, create_graph)), forms.outputs(_results(slopes, create_graph))


def jacobian(function: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """J = ∂f/∂x, of shape (*output shape, *input shape): one pass backward for each element of the output.

    With several outputs or inputs, a tuple for the outputs of tuples for the inputs.
    """
    xs, ys, forms = _evaluated(function, inputs, create_graph, "jacobian")
    rows = tuple([forms.inputs(_results(_jacobian(y, xs, create_graph), create_graph)) for y in ys])
    return forms.outputs(rows)


def hessian(function: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """H = ∂²f/∂x∂x of a function that gives one number, of shape (*input shape, *input shape).

    With several inputs, a tuple of tuples: H[i][j] = ∂²f/∂xᵢ∂xⱼ.
    """
    xs, gradients, _, forms = _differentiated(function, inputs, create_graph, "hessian")
    rows = [forms.inputs(_results(_jacobian(g, xs, create_graph), create_graph)) for g in gradients]
    return forms.inputs(tuple(rows))


def hvp(function: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(f(x), H·v) of a function that gives one number: its value, and the Hessian-vector product, without H itself.

    H is symmetric, so that this is ∂(∂f/∂x·v)/∂x (Pearlmutter, 1994). v: of the shape of each input; may be left out
    where x is one number, for 1.
    """
    xs, gradients, y, forms = _differentiated(function, inputs, create_graph, "hvp")
    products = _gradients(gradients, xs, _vectors(v, xs, "hvp", "input"), create_graph)
    return _results([y], create_graph)[0], forms.inputs(_results(products, create_graph))


def vhp(function: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(f(x), vᵀ·H), which is (f(x), H·v): see `hvp`."""
    return hvp(function, inputs, v, create_graph)


# ---------------------------------------------------------------- what they are made of


class _Forms:
    """Whether a function's inputs and outputs are single tensors or tuples."""

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.single_input, self.single_output = isinstance(inputs, Tensor), isinstance(outputs, Tensor)

    def inputs(self, values: tuple[Any, ...]) -> Any:
        return values[0] if self.single_input else values

    def outputs(self, values: tuple[Any, ...]) -> Any:
        return values[0] if self.single_output else values


def _tensors(values: Any, op: str, name: str) -> list[Tensor]:
    tensors = [values] if isinstance(values, Tensor) else list(values) if isinstance(values, Iterable) else [values]
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"[{op}] expected {name} as a tensor or a sequence of tensors, got {type(t).__name__}")
    return tensors


def _edge(t: Tensor) -> tuple[Any, int]:
    return (t, 0) if t._node is None else (t._node, t._index)


def _upstream(y: Tensor, dy: Any, name: str, op: str = "grad") -> Tensor:
    """The gradient of an output: the one given, or 1 for a single number."""
    if dy is None:
        if y.numel() != 1:
            raise ValueError(f"[{op}] expected {name} of shape {y.shape}, got None, which stands for 1 at one number")
        return filled(y.shape, 1.0, y.dtype)
    if not isinstance(dy, Tensor) or dy.shape != y.shape or dy.dtype is not y.dtype:
        got = f"{dy.dtype} {dy.shape}" if isinstance(dy, Tensor) else type(dy).__name__
        raise ValueError(f"[{op}] expected {name} as a tensor {y.dtype} {y.shape}, got {got}")
    return dy


def _vectors(v: Any, like: Sequence[Tensor], op: str, kind: str) -> list[Tensor]:
    """v for each of the inputs or outputs."""
    given = [None] * len(like) if v is None else _tensors(v, op, "v")
    if len(given) != len(like):
        raise ValueError(f"[{op}] expected v with {len(like)} tensors, one for each {kind}, got {len(given)}")
    return [_upstream(t, each, "v", op) for t, each in zip(like, given)]


def _evaluated(
    function: Callable[..., Any], inputs: Any, create_graph: bool, op: str
) -> tuple[list[Tensor], list[Tensor], _Forms]:
    """Inputs with a place of their own in the graph, the function's outputs from them, and the forms of both."""
    given = _tensors(inputs, op, "inputs")
    for i, x in enumerate(given):
        if not x.dtype.is_floating_point:
            raise TypeError(f"[{op}] expected inputs of floating dtype, got {x.dtype} for input {i}")
    with enable_grad():
        xs = [alias(x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in given]
        result = function(*xs)
    ys = _tensors(result, op, "the function's result")
    for y in ys:
        if not y.dtype.is_floating_point:
            raise TypeError(f"[{op}] expected a result of floating dtype, got {y.dtype}")
    return xs, ys, _Forms(inputs, result)


def _differentiated(
    function: Callable[..., Any], inputs: Any, create_graph: bool, op: str
) -> tuple[list[Tensor], tuple[Tensor, ...], Tensor, _Forms]:
    """Inputs, the gradient there, and the value, of a function that gives one number."""
    xs, ys, forms = _evaluated(function, inputs, create_graph, op)
    if len(ys) != 1 or ys[0].numel() != 1:
        raise ValueError(f"[{op}] expected a function that gives one number, got shapes {[y.shape for y in ys]}")
    return xs, _gradients(ys, xs, [_upstream(ys[0], None, "")], True), ys[0], forms


def _gradients(
    ys: Sequence[Tensor], xs: Sequence[Tensor], vectors: Sequence[Tensor], create_graph: bool
) -> tuple[Tensor, ...]:
    """As `grad`, keeping the graph; zeros where nothing depends on an input."""
    sent = [(y, v) for y, v in zip(ys, vectors) if y.requires_grad]
    if not sent:
        return tuple([filled(x.shape, 0.0, x.dtype) for x in xs])
    found = gradients_at([_edge(x) for x in xs], [_edge(y) for y, _ in sent], [v for _, v in sent], True, create_graph)
    return tuple([filled(x.shape, 0.0, x.dtype) if g is None else g for x, g in zip(xs, found)])


def _jacobian(y: Tensor, xs: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """∂y/∂x for each input, from one pass for each element of y."""
    rows = []
    for i in range(y.numel()):
        one = filled((y.numel(),), 0.0, y.dtype)
        one[i] = 1.0
        rows.append(_gradients([y], xs, [one.reshape(y.shape)], create_graph))
    if not rows:
        return [filled((*y.shape, *x.shape), 0.0, x.dtype) for x in xs]
    with enable_grad():
        return [stack(column).reshape((*y.shape, *x.shape)) for column, x in zip(zip(*rows), xs)]


def _results(tensors: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    return tuple(tensors) if create_graph else tuple([t.detach() for t in tensors])
