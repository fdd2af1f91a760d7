"""Numerical verification of gradients, in float64 by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.autograd import enable_grad
from fastbp.dtypes import float64
from fastbp.from_data import tensor
from fastbp.tensor import Tensor, filled


class GradcheckError(RuntimeError):
    """A gradient that disagrees with its numerical estimate."""


def gradcheck(
    f: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    full: bool | None = None,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """Compares the gradients of f with central differences (f(x + εv) − f(x − εv))/2ε.

    f: takes the inputs, returns a tensor or several; its outputs are weighted by random numbers into one scalar.
    inputs: tensors; those that require grad must be float64, and are checked.
    full: the whole Jacobian, element by element, rather than one random direction v; by default for at most 64
        elements in all.
    Returns True; otherwise raises GradcheckError, or returns False where raise_exception is off.
    Raises ValueError for inputs of another dtype, or when none requires grad.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("[gradcheck] expected at least one input that requires grad, got none")
    for i in checked:
        if inputs[i].dtype is not float64:
            raise ValueError(f"[gradcheck] expected input {i} of dtype float64, got {inputs[i].dtype}")
    generator = np.random.default_rng(seed)
    points = [np.array(inputs[i].detach().numpy()) for i in checked]

    def outputs_at(values: list[np.ndarray], grad: bool) -> tuple[list[Tensor], list[Tensor]]:
        arguments = list(inputs)
        leaves = [tensor(v, requires_grad=grad) for v in values]
        for i, leaf in zip(checked, leaves):
            arguments[i] = leaf
        result = f(*arguments)
        results = [result] if isinstance(result, Tensor) else list(result)
        return [y for y in results if isinstance(y, Tensor) and y.is_floating_point()], leaves

    results, leaves = outputs_at(points, True)
    weights = [generator.standard_normal(y.shape) for y in results]
    for y, w in zip(results, weights):
        if y.requires_grad:
            y.backward(tensor(w, dtype=y.dtype), retain_graph=True)
    gradients = [np.zeros(p.shape) if x.grad is None else np.array(x.grad.numpy()) for p, x in zip(points, leaves)]

    def scalar_at(values: list[np.ndarray]) -> float:
        found, _ = outputs_at(values, False)
        return float(sum(np.sum(y.detach().numpy() * w) for y, w in zip(found, weights)))

    def slope(direction: list[np.ndarray]) -> float:
        ahead = scalar_at([p + eps * v for p, v in zip(points, direction)])
        behind = scalar_at([p - eps * v for p, v in zip(points, direction)])
        return (ahead - behind) / (2 * eps)

    if full is None:
        full = sum(p.size for p in points) <= 64
    for direction, name in _directions(points, checked, full, generator):
        numerical = slope(direction)
        analytical = float(sum(np.sum(g * v) for g, v in zip(gradients, direction)))
        if not abs(numerical - analytical) <= atol + rtol * abs(numerical):
            if not raise_exception:
                return False
            raise GradcheckError(
                f"[gradcheck] expected a slope of {numerical:.9g} along {name}, got {analytical:.9g} from backward"
            )
    return True


def gradgradcheck(
    f: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    full: bool | None = None,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """Compares second derivatives of f with central differences of first ones: gradcheck of (x, ȳ) → Σ ȳ·∂f/∂x.

    As gradcheck, of the gradients that backward passes with create_graph give; the ȳ are drawn at random, and checked
    with the inputs.
    """
    from fastbp.derivatives import grad  # not needed by a plain `import fastbp`

    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("[gradgradcheck] expected at least one input that requires grad, got none")
    generator = np.random.default_rng(seed)

    def floating_outputs(*arguments: Any) -> list[Tensor]:
        result = f(*arguments)
        results = [result] if isinstance(result, Tensor) else list(result)
        return [y for y in results if isinstance(y, Tensor) and y.requires_grad]

    upstream = [
        tensor(generator.standard_normal(y.shape), dtype=y.dtype, requires_grad=True) for y in floating_outputs(*inputs)
    ]

    def first(*arguments: Any) -> list[Tensor]:
        values, gradients = list(arguments[: len(inputs)]), arguments[len(inputs) :]
        with enable_grad():
            for i in checked:
                values[i] = values[i] if values[i].requires_grad else values[i].detach().requires_grad_()
            points = [values[i] for i in checked]
            found = grad(floating_outputs(*values), points, gradients, create_graph=True, allow_unused=True)
        return [filled(x.shape, 0.0, x.dtype) if g is None else g for x, g in zip(points, found)]

    return gradcheck(first, (*inputs, *upstream), eps, atol, rtol, full, seed, raise_exception)


def _directions(points: list[np.ndarray], checked: list[int], full: bool, generator: np.random.Generator) -> Any:
    if not full:
        yield [generator.standard_normal(p.shape) for p in points], "a random direction"
        return
    for k, point in enumerate(points):
        for position in np.ndindex(point.shape):
            direction = [np.zeros(p.shape) for p in points]
            direction[k][position] = 1.0
            yield direction, f"element {position} of input {checked[k]}"
