"""What a rule is, and how a result is held against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastbp.kernels.facts import parameters_of

CHUNK = 512  # terms in one chain
LANES = 16  # chains side by side in sums over the last axis
DERIVATIVE_BOUND = 1.2  # above |f'| of every activation with slopes of at most 1
RULES: dict[str, Callable[..., Any]] = {}


class Worst(NamedTuple):
    """The element of an output that is farthest out of tolerance."""

    place: tuple[int, ...]
    expected: Any
    actual: Any
    bound: float | None  # the difference allowed there; None where equal bits are asked for
    differing: int  # elements out of tolerance
    size: int  # elements of the output

    def sentence(self, output: str) -> str:
        limit = "equal bits" if self.bound is None else f"within {self.bound:.3g}"
        return (
            f"expected {output}{list(self.place)} = {self.expected!r} ({limit}), got {self.actual!r}; "
            f"{self.differing} of {self.size} elements differ, none by more"
        )


def difference(
    name: str, output: str, arguments: dict[str, Any], expected: np.ndarray, actual: np.ndarray
) -> str | None:
    """What is wrong with `actual`, one of the outputs of a kernel called with `arguments` (as they were before the
    call); None if it is within tolerance."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"[{name}] expected {output} {expected.dtype} {expected.shape}, got {actual.dtype} {actual.shape}"
    found = worst(name, output, arguments, expected, actual)
    return found and f"[{name}] {found.sentence(output)}"


def worst(name: str, output: str, arguments: dict[str, Any], expected: np.ndarray, actual: np.ndarray) -> Worst | None:
    """As `difference`, of arrays of one shape and type: where `actual` is farthest off, measured by what is allowed."""
    bad = ~same(expected, actual)
    if not np.any(bad):
        return None
    bound = allowed(name, output, arguments, expected)
    with np.errstate(all="ignore"):
        distance = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        if bound is not None:
            bad &= ~((np.isfinite(expected) & (distance <= bound)) | (actual == expected))
            distance = distance / bound
    if not np.any(bad):
        return None
    distance = np.where(bad, np.where(np.isnan(distance), np.inf, distance), -1)
    place = np.unravel_index(int(np.argmax(distance)), bad.shape)
    return Worst(
        place=tuple(int(i) for i in place),
        expected=expected[place],
        actual=actual[place],
        bound=None if bound is None else float(np.broadcast_to(bound, bad.shape)[place]),
        differing=int(np.count_nonzero(bad)),
        size=bad.size,
    )


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where a and b have equal bits, all NaNs counting as one value."""
    bits = {1: np.uint8, 4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    equal = np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)
    return (equal | ((a != a) & (b != b))).reshape(a.shape)


def allowed(name: str, output: str, arguments: dict[str, Any], expected: np.ndarray) -> np.ndarray | None:
    """The largest |actual − expected| at each element of an output; None where the kernel is exact."""
    if name not in RULES or expected.dtype.kind != "f":
        return None
    rule = RULES[name]
    output, _, index = output.rstrip("]").partition("[")  # "params[3]" is the fourth of a list
    context = {
        "output": output,
        "index": int(index or 0),
        "expected": expected,
        "eps": float(np.finfo(expected.dtype).eps),
    }
    with np.errstate(all="ignore"):  # also of what outputs held before
        wide = {key: widen(value) for key, value in arguments.items()}
        bound = np.asarray(rule(**{p: {**wide, **context}[p] for p in parameters_of(rule)}), np.float64)
    finite = np.nan_to_num(bound, nan=0.0, posinf=0.0)  # where an infinity took part the result is exact
    return finite + 8 * float(np.finfo(expected.dtype).smallest_subnormal)


def widen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [widen(x) for x in value]
    array = isinstance(value, np.ndarray)
    return value.astype(np.float64) if array and value.dtype.kind == "f" else value


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the rule of kernels. Its parameters are any of: the kernel's arguments in float64, `output` (the name of
    the output), `index` (its place in a list operand), `expected` (its reference value), `eps` (of its type)."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def ulp(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The distance from |x| to the next larger value of dtype."""
    limit = np.finfo(dtype).max
    return np.spacing(np.minimum(np.abs(x), limit).astype(dtype)).astype(np.float64)


def roundings(n: int, eps: float, lanes: int = 1) -> float:
    """Bound of the error of a sum of n terms, as a share of the sum of their absolute values.

    Of `adds` additions in a row each one rounds by at most u = eps/2 of a partial sum: adds·u at worst. Roundings of
    unlike terms are of both signs and add up to about √adds·u/3; terms that are all alike come to 128·eps in a chain of
    512, which 6·√adds·eps still covers. The reference sums in float64, exactly next to float32; for float64 its own
    roundings are added, at worst n·u, as NumPy may add all n terms in a row.
    """
    chunks = -(-n // CHUNK)
    adds = min(n, CHUNK) / lanes + np.log2(lanes) + min(chunks, CHUNK) + chunks / CHUNK
    own = n / 2 if eps < 1e-10 else 0
    return eps * (min(adds / 2, 6 * np.sqrt(adds)) + own + 2)


def exponent_error(x: np.ndarray, axis: int, eps: float, roundings: float) -> np.ndarray:
    """Relative error of e^(x − m)/Σ, absolute error of its logarithm: x − m is rounded by |x − m|·u, the sum relatively
    by its roundings, the logarithm of the sum (at most log n) by itself."""
    m = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    distance = np.where(np.isfinite(x - m), np.abs(x - m), 0)
    return roundings + eps * (4 + 2 * distance + np.log(max(x.shape[axis], 1)))
