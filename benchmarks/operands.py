"""Operands for every kernel of the table of facts, at any size: what the comparison of threads runs over.

A kernel of a family that is known by its facts needs no line here; another one needs a row, or the benchmark fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastbp.bench import cases
from fastbp.bench.call import KernelCall, Out
from fastbp.kernels import facts, reference

FACTS = {name: f.facts for name, f in facts.kernels(reference).items()}
ELEMENTS = (8, 64, 512, 4096, 2**15, 2**18, 2**21)  # the work gate lies between 2^13 and 2^18, as operations cost
ROWS = ((8, 8), (64, 10), (64, 64), (512, 64), (512, 512), (4096, 256))
SIDES = (8, 16, 32, 48, 64, 128, 256, 512, 1024, 2048, 4096)  # m = k = n

draw = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    """Values that every function has a finite result for."""
    return (0.1 + 0.8 * draw.random(shape)).astype(np.float32)


def index(bound: int, *shape: int) -> np.ndarray:
    return draw.integers(0, bound, shape)


def state() -> np.ndarray:
    return np.array([1, 2])


def hyper(*rest: float) -> np.ndarray:
    """Step 2 with learning rate 0, so that parameters stay what they are in thousands of calls."""
    return np.array([2, 0, 0, *rest], np.float64)


def tensors(n: int) -> list[np.ndarray]:
    return [values(n)]


ADAM = hyper(0.9, 0.999, 1e-8, 0.81, 0.998)
# By elements.
FLAT: dict[str, Callable[[int], list[Any]]] = {
    "copy": lambda n: [values(n), Out((n,))],
    "cast": lambda n: [values(n), Out((n,), "float64")],
    "fill": lambda n: [1.5, Out((n,))],
    "concatenate": lambda n: [[values(n // 2), values(n // 2)], 0, Out((n,))],
    "accumulate": lambda n: [np.zeros(n, np.float32), values(n)],
    "arange": lambda n: [0.0, 1.0, Out((n,))],
    "wrap_index": lambda n: [index(9, n) - 4, 9, Out((n,), "int64")],
    "where": lambda n: [values(n) < 0.5, values(n), values(n), Out((n,))],
    "logical_not": lambda n: [values(n) < 0.5, Out((n,), "bool")],
    "uniform": lambda n: [state(), 0.0, 1.0, Out((n,))],
    "normal": lambda n: [state(), 0.0, 1.0, Out((n,))],
    "dropout_mask": lambda n: [state(), 0.5, Out((n,))],
    "permutation": lambda n: [state(), Out((n,), "int64")],
    "randint": lambda n: [state(), 0, 100, Out((n,), "int64")],
    "cross_entropy_denominator": lambda n: [index(9, n), None, None, -100, Out((1,))],
    "sgd_step": lambda n: [hyper(0.9, 0), tensors(n), tensors(n), False, tensors(n)],
    "rmsprop_step": lambda n: [hyper(0.99, 1e-8, 0), tensors(n), tensors(n), [], [], tensors(n)],
    "adagrad_step": lambda n: [hyper(0, 1e-10), tensors(n), tensors(n), tensors(n)],
    "adam_step": lambda n: [ADAM, tensors(n), tensors(n), tensors(n), [], tensors(n)],
    "adamw_step": lambda n: [ADAM, tensors(n), tensors(n), tensors(n), [], tensors(n)],
    "gradient_norm": lambda n: [tensors(n), Out((1,))],
    "scale_gradients": lambda n: [np.ones(1, np.float32), tensors(n)],
}
# By rows and columns.
BY_ROWS: dict[str, Callable[[int, int], list[Any]]] = {
    "gather": lambda r, c: [values(r, c), index(r, r), Out((r, c))],
    "scatter": lambda r, c: [values(r, c), index(r, r), values(r, c)],
    "scatter_add": lambda r, c: [np.zeros((r, c), np.float32), index(r, r), values(r, c)],
    "cross_entropy_forward": lambda r, c: [
        values(r, c), index(c, r), None, None, values(1), -100, 0.0, Out((r,)), Out((r, c)),
    ],
    "cross_entropy_probabilities_forward": lambda r, c: [
        values(r, c), values(r, c), None, None, values(1), 0.0, Out((r,)), Out((r, c)),
    ],
    "row_norm_forward": lambda r, c: [values(r, c), values(c), values(c), 1e-5, Out((r,)), Out((r,)), Out((r, c))],
    "row_norm_backward_input": lambda r, c: [
        values(r, c), values(r, c), values(c), values(r), values(r), Out((r, c)),
    ],
    "row_norm_backward_weight": lambda r, c: [
        values(r, c), values(r, c), values(r), values(r), False, Out((c,)), Out((c,)),
    ],
    "batch_norm_forward": lambda r, c: [
        values(r, c), values(c), values(c), None, 1e-5, 0.1, values(c), values(c), Out((r, c)), Out((c,)), Out((c,)),
    ],
    "batch_norm_apply": lambda r, c: [values(r, c), values(c), values(c), values(c), values(c), 1e-5, Out((r, c))],
    "batch_norm_backward": lambda r, c: [
        values(r, c), values(r, c), values(c), values(c), values(c), Out((r, c)), Out((c,)), Out((c,)),
    ],
    "nll_forward": lambda r, c: [values(r, c), index(c, r), None, None, values(1), -100, Out((r,)), Out((r, c))],
    "gaussian_nll_forward": lambda r, c: [
        values(r, c), values(r, c), values(r, c), None, values(1), 1e-6, 1.0, Out((r,)), Out((r, c)), Out((r, c)),
    ],
    "mixture_nll_forward": lambda r, c: [
        values(r, 4), values(r, 4, c), values(r, 4, c), values(r, c), None, values(1), Out((r,)), Out((r, 4)),
        Out((r, 4, c)), Out((r, 4, c)),
    ],
    "cosine_embedding_forward": lambda r, c: [
        values(r, c), values(r, c), np.ones(r, np.float32), None, values(1), 0.5, Out((r,)), Out((r, c)), Out((r, c)),
    ],
}  # fmt: skip
# Of one size.
FIXED: dict[str, Callable[[], list[Any]]] = {
    "rng_advance": lambda: [state()],
    "optimizer_advance": lambda: [hyper(0.9, 0)],
    "adam_advance": lambda: [ADAM],
    "clip_coefficient": lambda: [values(1), 1.0, Out((1,))],
}
PRODUCTS = {f"linear_{kind}": kind for kind in cases.PRODUCTS}
CONSTANTS = {
    "slope": 0.1, "omega": 30.0, "alpha": 1.0, "min": 0.3, "max": 0.6, "correction": 1, "delta": 0.5, "beta": 0.5,
    "margin": 0.5, "gamma": 2.0, "offset": 1e-8, "full": 1.0,
}  # fmt: skip
BOOLEAN = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")


def calls(name: str) -> Iterator[tuple[str, KernelCall]]:
    """Calls of a kernel at growing sizes, each with the size in words."""
    f = FACTS[name]
    if name in FIXED:
        yield "1", KernelCall(name, *FIXED[name]())
    elif name in PRODUCTS or name == "matmul":
        for side in SIDES:
            yield f"{side}³", product(name, side)
    elif name in FLAT or f.saved is not None or f.parameters == ("a", "b", "y"):
        for n in ELEMENTS:
            yield str(n), KernelCall(name, *flat(name, n))
    else:
        for rows, cols in ROWS:
            for label, operands in by_rows(name, rows, cols):
                yield label, KernelCall(name, *operands)


def product(name: str, side: int) -> KernelCall:
    if name == "matmul":
        square = side, side
        return KernelCall(name, values(*square), values(*square), False, False, False, Out(square))
    return cases.product(PRODUCTS[name], (side, side, side))


def flat(name: str, n: int) -> list[Any]:
    if name in FLAT:
        return FLAT[name](n)
    f = FACTS[name]
    if f.saved is not None:
        constants = [CONSTANTS[constant] for constant in f.constants]
        return [*(values(n) for _ in f.inputs), *constants, Out((n,))]
    a, b = values(n), values(n)
    return [
        *((a < 0.5, b < 0.5) if name.startswith("logical") else (a, b)),
        Out((n,), "bool" if name in BOOLEAN else None),
    ]


def by_rows(name: str, rows: int, cols: int) -> Iterator[tuple[str, list[Any]]]:
    f, label = FACTS[name], f"{rows}×{cols}"
    if name in BY_ROWS:
        yield label, BY_ROWS[name](rows, cols)
    elif name.startswith(("reduce_", "arg")):
        constants = [CONSTANTS[constant] for constant in f.constants]
        dtype = "int64" if name.startswith("arg") else None
        yield f"{label}, last axis", [values(rows, cols, 1), *constants, Out((rows, 1), dtype)]
        yield f"{label}, first axis", [values(1, rows, cols), *constants, Out((1, cols), dtype)]
    elif "coefficient" in f.parameters:
        constants = [CONSTANTS[constant] for constant in f.constants]
        x, target = values(rows, cols), values(rows, cols)
        yield label, [x, target, None, None, values(1), *constants, Out((rows,)), Out((rows, cols))]
    else:  # softmax and its kin; a kernel of another signature is refused by KernelCall
        yield label, [*(values(rows, cols) for _ in f.inputs), Out((rows, cols))]
