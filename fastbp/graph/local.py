"""Local derivatives: how each operation is written, and what it makes of the gradient that arrives.

One table, by the name of the Function. Operations that are not in it (those of users) are shown by their name, with the
gradients that pass, which need no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastbp.function import Function
from fastbp.graph.value import number

# {a}, {b}, {c} are the names of inputs, {all} stands for all of them, {y} is the output's name and {dy} its gradient.
# Where a form depends on the call (its dimensions, say), it is a function of what the operation kept and of the shapes
# of its inputs.
Form = str | Callable[[Mapping[str, Any], Sequence[tuple[int, ...]]], str]


class Rule(NamedTuple):
    """An operation in symbols.

    expression: what it computes. local: of an operation element by element, ∂y/∂a, ∂y/∂b. gradient: of any other, what
    it sends to a, b; where one entry is given it holds for every input. words: the rule in a sentence.
    """

    expression: Form
    local: tuple[Form, ...] = ()
    gradient: tuple[str, ...] = ()
    words: str = ""


def _over_dims(word: str) -> Form:
    def form(detail: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> str:
        dims = detail.get("dims", ())
        if len(dims) == len(shapes[0]):
            return f"{detail.get('operation', word)}({{a}})"
        return f"{detail.get('operation', word)}({{a}}, dim={dims[0] if len(dims) == 1 else tuple(dims)})"

    return form


def _with_constants(word: str) -> Form:
    def form(detail: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> str:
        return f"{word}({', '.join(['{a}', *map(number, detail.get('constants', ()))])})"

    return form


def _gathered(detail: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> str:
    if "operation" in detail:  # the extreme elements, gathered from where they were found
        return f"{detail['operation']}({{a}}, dim={detail['dim']})"
    return "gather({a})"


def _sine(form: str) -> Form:
    return lambda detail, shapes: form.replace("ω", number(detail["constants"][0]))


def _indexed(detail: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> str:
    entries = []
    for (start, step, length), size in zip(detail["spec"], shapes[0]):
        if length is None:
            entries.append(str(start))
        elif (start, step, length) == (0, 1, size):
            entries.append(":")
        else:
            entries.append(f"{start}:{start + (length - 1) * step + 1}" + (f":{step}" if step != 1 else ""))
    return f"{{a}}[{', '.join(entries)}]"


_PASSED = "passes the gradient on as it is"
_ROUTED = "passes the gradient to where the value came from"
_SCALED = "multiplies the gradient by its slope, element by element"
_SHARED = "gives every element that took part its share of the gradient"

RULES: dict[str, Rule] = {
    # element by element, of two
    "Add": Rule("{a} + {b}", ("1", "1"), words="passes the gradient on to both inputs"),
    "Sub": Rule("{a} - {b}", ("1", "-1"), words="passes the gradient on, to the second input with the other sign"),
    "Mul": Rule("{a} × {b}", ("{b}", "{a}"), words="swaps the inputs: each gets the gradient times the other"),
    "Div": Rule("{a} / {b}", ("1/{b}", "-{y}/{b}"), words=_SCALED),
    "Pow": Rule("{a} ^ {b}", ("{b}·{a}^({b} - 1)", "{y}·ln {a}"), words=_SCALED),
    "Maximum": Rule(
        "max({a}, {b})", ("1 where {a} > {b}, ½ where equal", "1 where {b} > {a}, ½ where equal"), words=_ROUTED
    ),
    "Minimum": Rule(
        "min({a}, {b})", ("1 where {a} < {b}, ½ where equal", "1 where {b} < {a}, ½ where equal"), words=_ROUTED
    ),
    "Where": Rule("where({a}, {b}, {c})", ("", "1 where {a}, else 0", "0 where {a}, else 1"), words=_ROUTED),
    # element by element, of one
    "Exp": Rule("exp({a})", ("{y}",), words=_SCALED),
    "Log": Rule("ln({a})", ("1/{a}",), words=_SCALED),
    "Log1p": Rule("ln(1 + {a})", ("1/(1 + {a})",), words=_SCALED),
    "Expm1": Rule("exp({a}) - 1", ("{y} + 1",), words=_SCALED),
    "Sqrt": Rule("√{a}", ("1/(2·{y})",), words=_SCALED),
    "Sin": Rule("sin({a})", ("cos({a})",), words=_SCALED),
    "Sine": Rule(_sine("sin(ω·{a})"), (_sine("ω·cos(ω·{a})"),), words=_SCALED),
    "Cos": Rule("cos({a})", ("-sin({a})",), words=_SCALED),
    "Reciprocal": Rule("1 / {a}", ("-{y}²",), words=_SCALED),
    "Erf": Rule("erf({a})", ("2/√π·exp(-{a}²)",), words=_SCALED),
    "Tanh": Rule("tanh({a})", ("1 - {y}²",), words=_SCALED),
    "Sigmoid": Rule("σ({a})", ("{y}·(1 - {y})",), words=_SCALED),
    "Relu": Rule("relu({a})", ("1 where {a} > 0, else 0",), words="stops the gradient where its input is not positive"),
    "LeakyRelu": Rule(_with_constants("leaky_relu"), ("1 where {a} > 0, else the slope",), words=_SCALED),
    "Elu": Rule(_with_constants("elu"), ("1 where {a} > 0, else {y} + α",), words=_SCALED),
    "Silu": Rule("silu({a})", ("σ({a})·(1 + {a}·(1 - σ({a})))",), words=_SCALED),
    "Softplus": Rule("softplus({a})", ("σ({a})",), words=_SCALED),
    "Neg": Rule("-{a}", ("-1",), words="turns the gradient's sign"),
    "Square": Rule("{a}²", ("2·{a}",), words=_SCALED),
    "Abs": Rule("|{a}|", ("the sign of {a}",), words="turns the gradient's sign where its input is negative"),
    "Clamp": Rule(
        _with_constants("clamp"), ("1 within the bounds, else 0",), words="stops the gradient where a bound holds"
    ),
    "Gelu": Rule("gelu({a})", ("Φ({a}) + {a}·φ({a})",), words=_SCALED),
    "Clone": Rule("clone({a})", ("1",), words=_PASSED),
    "Alias": Rule("{a}", ("1",), words=_PASSED),
    "Cast": Rule("{a}", ("1",), words=_PASSED),
    # products; their gradients are written by `gradient`, since a transposed operand changes them
    "MatMul": Rule("{a} @ {b}", words="each input gets the product of the gradient with the other, transposed"),
    # reductions
    "Sum": Rule(_over_dims("sum"), gradient=("{dy} to each element",), words=_SHARED),
    "Mean": Rule(_over_dims("mean"), gradient=("{dy}/n to each of n elements",), words=_SHARED),
    "Max": Rule(_over_dims("extreme"), gradient=("{dy} to the extreme element, in equal parts",), words=_ROUTED),
    "Var": Rule(_over_dims("var"), gradient=("{dy}·2·({a} - mean)/divisor",), words=_SHARED),
    "LogSumExp": Rule(_over_dims("logsumexp"), gradient=("{dy}·softmax({a})",), words=_SHARED),
    "Softmax": Rule("softmax({a})", gradient=("{y}·({dy} - Σ {dy}·{y})",), words="each row mixes its own gradient"),
    "LogSoftmax": Rule(
        "log_softmax({a})", gradient=("{dy} - exp({y})·Σ {dy}",), words="each row mixes its own gradient"
    ),
    # the same elements elsewhere
    "Reshape": Rule("reshape({a})", gradient=("{dy} in the old shape",), words=_PASSED),
    "Permute": Rule("permute({a})", gradient=("{dy} with the dimensions back",), words=_PASSED),
    "Expand": Rule("expand({a})", gradient=("Σ {dy} over what was repeated",), words="sums over all uses"),
    "Concatenate": Rule("cat({all})", gradient=("its part of {dy}",), words=_ROUTED),
    "Slice": Rule(_indexed, gradient=("{dy} in its place, 0 elsewhere",), words=_ROUTED),
    "Place": Rule("place({a})", gradient=("{dy} at its place",), words=_ROUTED),
    "Gather": Rule(_gathered, gradient=("rows of {dy}, added where they came from",), words=_ROUTED),
    "PaddedGather": Rule(
        "gather({a})", gradient=("rows of {dy}, added where they came from, none to the padding",), words=_ROUTED
    ),
    "ScatterAdd": Rule("scatter_add({a})", gradient=("rows of {dy} by their index",), words=_ROUTED),
}


def rule_of(function: type[Function]) -> Rule | None:
    """The rule of an operation of fastbp; None for those of users, and where the table has none."""
    if not function.__module__.startswith("fastbp."):
        return None
    if function.__module__ == "fastbp.ops.unary" and function.__name__ not in RULES:
        name = function.__name__.lower()
        return Rule(f"{name}({{a}})", (f"{name}′({{a}})",), words=_SCALED)
    return RULES.get(function.__name__)


def is_elementwise(function: type[Function]) -> bool:
    """Whether every element of the output depends on the elements of its own place alone."""
    rule = rule_of(function)
    return rule is not None and bool(rule.local)


class Names:
    """What a call's symbols stand for.

    inputs: names. detail: what the call was told. shapes: of the inputs, as the operation got them.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        output: str,
        detail: Mapping[str, Any],
        shapes: Sequence[tuple[int, ...]],
        output_shape: tuple[int, ...],
    ) -> None:
        self.inputs, self.output, self.detail = inputs, output, detail
        self.shapes, self.output_shape = shapes, output_shape
        a, b, c = [*inputs[:3], "", "", ""][:3]
        few = [*inputs[:3], f"… {len(inputs) - 3} more"] if len(inputs) > 4 else inputs
        self._symbols = {"a": a, "b": b, "c": c, "y": output, "dy": d(output), "all": ", ".join(few)}

    def fill(self, form: Form) -> str:
        """A form with the names in their places."""
        return (form if isinstance(form, str) else form(self.detail, self.shapes)).format_map(self._symbols)


def expression(function: type[Function], names: Names) -> str:
    """What a call computes: a × b."""
    rule = rule_of(function)
    return names.fill(rule.expression if rule else function.__name__.lstrip("_") + "({all})")


def local_symbol(function: type[Function], names: Names, position: int) -> str:
    """∂y/∂x of an operation element by element, in symbols; "" for any other."""
    rule = rule_of(function)
    return names.fill(rule.local[position]) if rule and position < len(rule.local) else ""


def gradient_symbol(function: type[Function], names: Names, position: int, transposed: bool) -> str:
    """What a call sends to an input, in symbols: dy·b; "" where there is no rule.

    transposed: whether the input is a transposed view of what is named, to which the gradient is sent.
    """
    rule = rule_of(function)
    if rule is None:
        return ""
    if function.__name__ == "MatMul":
        a, b = names.inputs
        factors = [d(names.output), _transpose(b)] if position == 0 else [_transpose(a), d(names.output)]
        return "·".join(map(_transpose, reversed(factors)) if transposed else factors)
    if not rule.local:
        form = rule.gradient[position if len(rule.gradient) > 1 else 0] if rule.gradient else ""
        return names.fill(form)
    slope = names.fill(rule.local[position])
    if " " in slope:
        slope = f"({slope})"
    sent = {"1": d(names.output), "-1": f"-{d(names.output)}"}.get(slope, f"{d(names.output)}·{slope}")
    broadcast = position < len(names.shapes) and names.shapes[position] != names.output_shape
    return f"Σ {sent}" if broadcast else sent


def d(name: str) -> str:
    """The gradient of what is named: dy, d(0.weight)."""
    return f"d{name}" if name.isidentifier() else f"d({name})"


def _transpose(name: str) -> str:
    return name[:-1] if name.endswith("ᵀ") else f"{name}ᵀ"
