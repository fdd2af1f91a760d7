"""`fastbp.explain`: a computation and its backpropagation as a picture."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fastbp.graph.capture import Capture
from fastbp.graph.notes import Operation, Scope
from fastbp.graph.picture import Picture
from fastbp.nn.module import Module
from fastbp.tensor import Tensor

ELEMENTS = 16  # a tensor with more of them is summed up


def explain(
    function: Callable[..., Any] | None = None, /, *inputs: Any, elements: int = ELEMENTS, **kwargs: Any
) -> Any:
    """The graph of a computation with values and gradients: downstream = upstream × local at every node.

        with fastbp.explain() as picture:
            y = a * b
            z = y * c
            z.backward()
        print(picture)
        picture.save("gym_bill.html")

    `explain(f, *inputs, **kwargs)` runs f and returns the Picture; where f returns one number that requires grad and
    did not call backward on it, backward is called. Gradients add to `grad` as ever.

    While the code runs, fused operations run as the plain ones that they stand for, and compiled functions operation by
    operation, so results may differ from those without a picture by rounding. Values are copied when they are computed:
    a later optimizer step changes nothing. Several backward passes are all kept, with their number. A block without any
    gives values alone.

    Names are those of arguments and variables of f or of the block, and for parameters their dotted names in the
    outermost module that was called, or in what a variable holds that one by; `picture.name(x=x)` gives others.

    elements: tensors with at most so many elements are kept in full; of larger ones norm, least, largest and mean
    element and a histogram.

    Raises ValueError where no operation on a tensor that requires grad ran; RuntimeError for a picture inside of
    another, or inside of a compiled function; TypeError for what is no function. Where the block ends with an
    exception, that passes, and the picture shows what ran before it. Holds for the calling thread.
    """
    if isinstance(elements, bool) or not isinstance(elements, int):
        raise TypeError(f"[explain] expected elements as an integer, got {elements!r}")
    if elements < 1:
        raise ValueError(f"[explain] expected elements of at least 1, got {elements}")
    if function is None:
        if inputs or kwargs:
            raise TypeError("[explain] expected a function before its arguments, got None")
        return _Block(elements)
    if not callable(function):
        raise TypeError(
            f"[explain] expected a function to run, or nothing for `with fastbp.explain() as picture:`, "
            f"got {type(function).__name__}"
        )
    code = _code_of(function)
    frames: list[Any] = []  # that of the function, once its first operation ran

    def find_frame() -> None:
        frame = sys._getframe()
        while frame is not None and frame.f_code is not explain.__code__:
            if frame.f_code is code:
                frames[:] = [frame]
            frame = frame.f_back  # type: ignore[assignment]

    capture = Capture(elements, find_frame)
    try:
        with capture.active():
            result = function(*inputs, **kwargs)
            _finish(capture, result)
        variables = _variables_of(frames[0]) if frames else {}
    finally:
        frames.clear()  # a frame keeps all its variables alive
    arguments = _tensors_in(_arguments(function, inputs, kwargs))
    outputs = _tensors_in({"output": result})
    picture = Picture(capture)
    name = getattr(function, "__name__", type(function).__name__)
    picture.title = name if name.isidentifier() else picture.title
    _close(picture, capture, variables, arguments, outputs)
    return picture


class _Block(AbstractContextManager["Picture"]):
    """`with fastbp.explain() as picture:`"""

    def __init__(self, elements: int) -> None:
        self.capture = Capture(elements)
        self.picture = Picture(self.capture)
        self.active: Any = None

    def __enter__(self) -> Picture:
        if self.active is not None:
            raise RuntimeError("[explain] expected a block to be entered once; call explain() for another")
        active = self.capture.active()
        active.__enter__()
        self.active = active
        return self.picture

    def __exit__(self, *exception: Any) -> None:
        self.active.__exit__(*exception)
        self.picture._error = "" if exception[0] is None else exception[0].__name__
        _close(self.picture, self.capture, _variables_of(sys._getframe(1)), (), ())


def _finish(capture: Capture, result: Any) -> None:
    """Calls backward on the result of a function where that has not been done and can be."""
    if not isinstance(result, Tensor) or result.numel() != 1:
        return
    made = capture.made(result)
    if made is not None and not made.arrivals:
        result.backward()


def _close(
    picture: Picture,
    capture: Capture,
    variables: Mapping[str, Any],
    arguments: Sequence[tuple[str, Tensor]],
    outputs: Sequence[tuple[str, Tensor]],
) -> None:
    """Gives what was noted its names: those of outputs, variables, parameters, arguments, later ones before."""
    picture._closed = True
    if picture._error == "" and not any(isinstance(item, Operation) for item in capture.items):
        raise ValueError(
            "[explain] expected operations on tensors that require grad, got none; "
            "run the forward pass inside, with requires_grad=True where a gradient is asked for"
        )
    prefixes = _name_modules(capture, variables)
    tensors = [(name, t) for name, t in reversed(list(variables.items())) if _is_name(name) and isinstance(t, Tensor)]
    parameters = [(".".join(filter(None, (prefixes[scope], name))), t) for t, scope, name in capture.parameters()]
    for name, tensor in (*outputs, *tensors, *parameters, *arguments):
        picture._found |= dict.fromkeys(capture.places_of(tensor), name)


def _name_modules(capture: Capture, variables: Mapping[str, Any]) -> dict[Scope, str]:
    """Labels the calls of modules; returns for each outermost call what comes before the names of its parameters.

    Where one module with parameters was called from outside of others, that is nothing; of several each has its
    variable's name, or its class. One that a variable's module, list or dictionary holds has its place there, also
    where it is the only one: a loop's variable is that of the last.
    """
    known = _names_of_modules(variables) if capture.outermost else {}
    modules = {scope: scope.module() for scope in capture.outermost if scope.module is not None}
    labels: dict[int, str] = {}
    for scope, module in modules.items():
        if id(module) not in labels:
            label, _ = known.get(id(module), (scope.kind, False))
            same = sum(other.split(" ")[0] == label for other in labels.values())
            labels[id(module)] = f"{label} {same + 1}" if same else label
    several = len({id(scope.module()) for _, scope, _ in capture.parameters() if scope.module}) > 1
    prefixes = {
        scope: labels[id(module)] if several or known.get(id(module), ("", False))[1] else ""
        for scope, module in modules.items()
    }
    for scope in capture.scopes_seen:
        outermost = scope.outermost
        if outermost in modules:
            names = prefixes[outermost], scope.path
            scope.label = ".".join(filter(None, names)) if scope.parent else labels[id(modules[outermost])]
            scope.label = scope.label or scope.kind
    return prefixes


def _names_of_modules(variables: Mapping[str, Any]) -> dict[int, tuple[str, bool]]:
    """By id of a module: the name of its variable or of its place in what a variable holds, and whether it is that."""
    own: dict[int, tuple[str, bool]] = {}
    held: dict[int, tuple[str, bool]] = {}
    for name, value in variables.items():
        if not _is_name(name):
            continue
        if isinstance(value, Module):
            own.setdefault(id(value), (name, False))
            places = [(name, value)]
        elif isinstance(value, Mapping):
            places = [(f"{name}[{key!r}]", each) for key, each in value.items() if isinstance(each, Module)]
        elif isinstance(value, (list, tuple)):
            places = [(f"{name}[{i}]", each) for i, each in enumerate(value) if isinstance(each, Module)]
        else:
            continue
        for place, module in places:
            if module is not value:
                held.setdefault(id(module), (place, True))
            before = "" if place == "self" else f"{place}."  # in a method, what a state_dict calls it
            for path, each in module.named_modules():
                if path:
                    held.setdefault(id(each), (before + path, True))
    return own | held


def _variables_of(frame: Any) -> dict[str, Any]:
    """A frame's variables by name, and the global ones that its code uses.

    Before Python 3.13 a function's frame keeps the dictionary that it gives, and so all that is in it: it is emptied,
    unless somebody else has it as well.
    """
    given = frame.f_locals
    variables = dict(given)
    alone = sys.getrefcount(given) <= 3  # the frame, the name here, the argument of this call
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED and type(given) is dict and alone:
        given.clear()
    for name in _names_in(frame.f_code):
        if name in frame.f_globals:
            variables.setdefault(name, frame.f_globals[name])
    return variables


def _names_in(code: Any) -> Iterator[str]:
    """The names that code looks up outside of itself, also that of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names_in(constant)


def _is_name(name: str) -> bool:
    return not name.startswith("_")


def _code_of(function: Any) -> Any:
    """The code whose variables name the tensors of a function, a method or a module."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, Module):
        function = type(function).forward
    function = inspect.unwrap(function)
    function = getattr(function, "function", function)  # of a compiled one
    return getattr(getattr(function, "__func__", function), "__code__", None)


def _arguments(function: Any, inputs: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by the names of the function's parameters."""
    target = function.forward if isinstance(function, Module) else function
    try:
        return dict(inspect.signature(target).bind(*inputs, **kwargs).arguments)
    except (TypeError, ValueError):  # a builtin has no signature to be read
        return {f"input{i}": x for i, x in enumerate(inputs)} | kwargs


def _tensors_in(values: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """Tensors, also in tuples, lists and dicts, by name: x, batch[0], options['w']."""
    found: list[tuple[str, Tensor]] = []
    rest: list[tuple[str, Any]] = list(values.items())[::-1]
    while rest:
        name, value = rest.pop()
        if isinstance(value, Tensor):
            found.append((name, value))
        elif isinstance(value, Mapping):
            rest += [(f"{name}[{key!r}]", each) for key, each in value.items()]
        elif isinstance(value, (tuple, list)):
            rest += [(f"{name}[{i}]", each) for i, each in enumerate(value)]
    return found
