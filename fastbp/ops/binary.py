"""Element-wise operations of two or three operands, with broadcasting and type promotion; comparisons and logic."""

from __future__ import annotations

import builtins
import math
from typing import Any

from fastbp import dtypes
from fastbp.dtypes import FLOATING_CODES, DType, float32, int64, promote
from fastbp.function import Function, record
from fastbp.kernels.storage import empty_broadcast
from fastbp.ops.common import NUMBERS, as_operand, backend_of, broadcast_shape, like, new, sum_to
from fastbp.ops.unary import sqrt, square
from fastbp.tensor import Tensor, contiguous

__all__ = [
    "add",
    "div",
    "eq",
    "ge",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "pow",
    "sub",
    "where",
]


def _number_dtype(x: Any) -> DType:
    return dtypes.bool if isinstance(x, builtins.bool) else int64 if isinstance(x, int) else float32


def _meeting_dtype(a: Tensor, b: Tensor) -> DType:
    """The wider type; but a scalar tensor does not widen a tensor with dimensions of its own kind."""
    if (a.ndim == 0) != (b.ndim == 0):
        scalar, other = (a, b) if a.ndim == 0 else (b, a)
        if scalar.dtype.is_floating_point == other.dtype.is_floating_point and scalar.dtype is not dtypes.bool:
            return promote(other.dtype, int64) if other.dtype is dtypes.bool else other.dtype
    return promote(a.dtype, b.dtype)


def _meet(a: Any, b: Any, op: str) -> tuple[Any, Any]:
    """Both operands in one type. A number takes the tensor's type, except that a float makes integers float32."""
    a, b = as_operand(a, op), as_operand(b, op)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.buffer.dtype == b.buffer.dtype:
            return a, b
        dtype = _meeting_dtype(a, b)
        return a.to(dtype), b.to(dtype)
    if isinstance(a, Tensor):
        if a.dtype.is_floating_point:
            return a, float(b)
        return a.to(promote(a.dtype, _number_dtype(b))), b
    if isinstance(b, Tensor):
        if b.dtype.is_floating_point:
            return float(a), b
        return a, b.to(promote(b.dtype, _number_dtype(a)))
    raise TypeError(f"[{op}] expected at least one tensor, got {type(a).__name__} and {type(b).__name__}")


def _floating_alike(a: Any, b: Any) -> builtins.bool:
    """The usual case, in which nothing needs to be done: a floating tensor with one of its dtype or with a float."""
    if not isinstance(a, Tensor) or a.buffer.dtype not in FLOATING_CODES:
        return False
    return b.buffer.dtype == a.buffer.dtype if isinstance(b, Tensor) else type(b) is float


def _numeric(a: Any, b: Any, op: str) -> tuple[Any, Any]:
    """As _meet; truth values become integers, for arithmetic."""
    if _floating_alike(a, b):
        return a, b
    a, b = _meet(a, b, op)
    if isinstance(a, Tensor) and a.dtype is dtypes.bool:
        a = a.to(int64)
    if isinstance(b, Tensor) and b.dtype is dtypes.bool:
        b = b.to(int64)
    return a, b


def _call(op: str, a: Any, b: Any, compares: builtins.bool = False) -> Tensor:
    """Runs a binary kernel into a new tensor of the operands' dtype, or of bool for a comparison."""
    kernel = getattr(backend_of(a if isinstance(a, Tensor) else b), op)
    a = contiguous(a) if isinstance(a, Tensor) else a
    b = contiguous(b) if isinstance(b, Tensor) else b
    y = empty_broadcast(op, a, b, compares)
    kernel(a, b, y)
    return Tensor(y)


def _to(gradient: Tensor, ctx: Any, position: int) -> Any:
    """The gradient summed to an operand's shape."""
    return sum_to(gradient, ctx.input_shape(position))


class Add(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        need_a, need_b = ctx.edges
        return _to(dy, ctx, 0) if need_a else None, _to(dy, ctx, 1) if need_b else None


class Sub(Function):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        need_a, need_b = ctx.edges
        return _to(dy, ctx, 0) if need_a else None, _to(-dy, ctx, 1) if need_b else None


def _operands(ctx: Any) -> tuple[Any, Any]:
    """What _call_and_keep kept."""
    a, b = ctx.saved_tensors
    return ctx.a if a is None else a, ctx.b if b is None else b


class Mul(Function):
    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        a, b = _operands(ctx)
        need_a, need_b = ctx.edges
        return _to(dy * b, ctx, 0) if need_a else None, _to(dy * a, ctx, 1) if need_b else None


class Div(Function):
    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        a, b = _operands(ctx)
        need_a, need_b = ctx.edges
        da = dy / b
        return _to(da, ctx, 0) if need_a else None, _to(-(da * (a / b)), ctx, 1) if need_b else None


class Pow(Function):
    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        a, b = _operands(ctx)
        need_a, need_b = ctx.edges
        da = db = None
        if need_a:
            # a⁰ is constant, also at a = 0 where b·a^(b − 1) would be 0·∞.
            if isinstance(b, Tensor):
                da = _to(where(b == 0, 0.0, dy * b * pow(a, b - 1)), ctx, 0)
            else:
                da = dy * 0.0 if b == 0 else dy * (b * pow(a, b - 1))
        if need_b:
            # 0ᵇ is 0 for every b > 0: its derivative there is 0, where ln 0·0ᵇ would be NaN.
            slope = pow(a, b) * (a.log() if isinstance(a, Tensor) else _log_of(a, b))
            zero = (a == 0) & (b >= 0) if isinstance(a, Tensor) else (b >= 0) & (a == 0)
            db = _to(where(zero, 0.0, dy * slope), ctx, 1)
        return da, db


def _log_of(a: float, b: Tensor) -> Tensor:
    return (b * 0 + a).log()


class _Extremum(Function):
    """Where the operands are equal each gets half of the gradient."""

    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any]:
        a, b = _operands(ctx)
        need_a, need_b = ctx.edges
        wins, loses = (gt(a, b), lt(a, b)) if ctx.function is Maximum else (lt(a, b), gt(a, b))
        half = dy * 0.5
        da = _to(where(wins, dy, where(loses, 0.0, half)), ctx, 0) if need_a else None
        db = _to(where(loses, dy, where(wins, 0.0, half)), ctx, 1) if need_b else None
        return da, db


class Maximum(_Extremum):
    pass


class Minimum(_Extremum):
    pass


class Where(Function):
    fresh = True

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, Any, Any]:
        (condition,) = ctx.saved_tensors
        _, need_a, need_b = ctx.edges
        da = _to(where(condition, dy, 0.0), ctx, 1) if need_a else None
        db = _to(where(condition, 0.0, dy), ctx, 2) if need_b else None
        return None, da, db


def _call_and_keep(function: Any, op: str, a: Any, b: Any) -> Tensor:
    """Runs a binary kernel whose rule needs both operands, of which one may be a number."""
    y = _call(op, a, b)
    if node := record(function, (a, b), y):
        node.a, node.b = None if isinstance(a, Tensor) else a, None if isinstance(b, Tensor) else b
        node.save_for_backward(a if node.a is None else None, b if node.b is None else None)
    return y


def add(a: Any, b: Any) -> Tensor:
    """y = a + b, with broadcasting."""
    a, b = _numeric(a, b, "add")
    y = _call("add", a, b)
    record(Add, (a, b), y)
    return y


def sub(a: Any, b: Any) -> Tensor:
    """y = a − b, with broadcasting."""
    a, b = _numeric(a, b, "sub")
    y = _call("sub", a, b)
    record(Sub, (a, b), y)
    return y


def mul(a: Any, b: Any) -> Tensor:
    """y = a·b element by element, with broadcasting."""
    a, b = _numeric(a, b, "mul")
    return _call_and_keep(Mul, "mul", a, b)


def div(a: Any, b: Any) -> Tensor:
    """y = a/b element by element, with broadcasting; integers are divided as float32."""
    a, b = _floats(a, b, "div")
    return _call_and_keep(Div, "div", a, b)


def pow(a: Any, b: Any) -> Tensor:
    """y = aᵇ element by element, with broadcasting; integers are taken as float32."""
    if isinstance(a, Tensor) and isinstance(b, NUMBERS) and a.dtype.is_floating_point:
        if b == 2:
            return square(a)
        if b == 1:
            return a * 1.0
        if b == 0.5:
            return sqrt(a)
    a, b = _floats(a, b, "pow")
    return _call_and_keep(Pow, "pow", a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, with broadcasting; NaN wins; of equal operands each gets half of the gradient."""
    a, b = _numeric(a, b, "maximum")
    return _call_and_keep(Maximum, "maximum", a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, with broadcasting; NaN wins; of equal operands each gets half of the gradient."""
    a, b = _numeric(a, b, "minimum")
    return _call_and_keep(Minimum, "minimum", a, b)


def _floats(a: Any, b: Any, op: str) -> tuple[Any, Any]:
    """As _meet; integers and truth values become float32, for division."""
    if _floating_alike(a, b):
        return a, b
    a, b = _meet(a, b, op)
    if isinstance(a, Tensor) and not a.dtype.is_floating_point:
        a, b = a.to(float32), b.to(float32) if isinstance(b, Tensor) else float(b)
    elif isinstance(b, Tensor) and not b.dtype.is_floating_point:
        a, b = float(a), b.to(float32)
    return a, b


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition holds, else b, with broadcasting. TypeError when the condition is not a bool tensor."""
    if not isinstance(condition, Tensor) or condition.dtype is not dtypes.bool:
        raise TypeError(
            f"[where] expected condition as a bool tensor, got {getattr(condition, 'dtype', type(condition).__name__)}"
        )
    if isinstance(a, NUMBERS) and isinstance(b, NUMBERS):
        a = Tensor(new((), _number_dtype(a * 1 + b * 1)).buffer).fill_(a)
    a, b = _meet(a, b, "where")
    shapes = [x.shape for x in (condition, a, b) if isinstance(x, Tensor)]
    y = new(broadcast_shape("where", *shapes), a.dtype if isinstance(a, Tensor) else b.dtype)
    operands = [contiguous(x) if isinstance(x, Tensor) else x for x in (a, b)]
    backend_of(condition).where(contiguous(condition), *operands, y.buffer)
    if node := record(Where, (condition, a, b), y):
        node.save_for_backward(condition)
    return y


def _comparison(name: str, sign: str) -> Any:
    def op(a: Any, b: Any) -> Tensor:
        return _call(name, *_meet(a, b, name), compares=True)

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"Whether a {sign} b, element by element, as bool; with broadcasting, without gradient."
    return op


eq = _comparison("eq", "=")
ne = _comparison("ne", "≠")
lt = _comparison("lt", "<")
le = _comparison("le", "≤")
gt = _comparison("gt", ">")
ge = _comparison("ge", "≥")


def _logical(name: str, word: str) -> Any:
    def op(a: Any, b: Any) -> Tensor:
        a, b = as_operand(a, name), as_operand(b, name)
        a, b = (x.to(dtypes.bool) if isinstance(x, Tensor) else builtins.bool(x) for x in (a, b))
        return _call(name, a, b)

    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"a {word} b, element by element; values are taken as bool. With broadcasting, without gradient."
    return op


logical_and = _logical("logical_and", "and")
logical_or = _logical("logical_or", "or")
logical_xor = _logical("logical_xor", "xor")


def isnan(x: Tensor) -> Tensor:
    """Whether x is NaN, element by element, as bool."""
    return ne(x, x)


def isfinite(x: Tensor) -> Tensor:
    """Whether x is neither NaN nor infinite, element by element, as bool."""
    return eq(x - x, 0) if x.dtype.is_floating_point else eq(x, x)


def isinf(x: Tensor) -> Tensor:
    """Whether x is +∞ or −∞, element by element, as bool."""
    return logical_or(eq(x, math.inf), eq(x, -math.inf)) if x.dtype.is_floating_point else ne(x, x)


def logical_not(x: Tensor) -> Tensor:
    """Not x, element by element; values are taken as bool."""
    x = x.to(dtypes.bool)
    y = like(x)
    backend_of(x).logical_not(contiguous(x), y.buffer)
    return y
