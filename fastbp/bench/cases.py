"""What is measured of the kernels: products of linear layers, and kernels bound by memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastbp.bench.call import KernelCall, Out

PRODUCTS = ("forward", "backward_input", "backward_weight")
# (m, k, n): the layers of the training steps, and large ones.
SHAPES = (
    (64, 784, 128), (128, 784, 512), (128, 512, 512), (1024, 1024, 1024), (512, 4096, 4096), (4096, 100, 256),
)  # fmt: skip
CLASSES = 256  # columns of the cross-entropy case


def product(kind: str, shape: tuple[int, int, int], dtype: str = "float32") -> KernelCall:
    """A product of a linear layer of k inputs and n outputs on m rows, with what goes along with it: bias and relu
    forward, the derivative of relu in dx, the bias gradient beside dw."""
    m, k, n = shape
    draw = np.random.default_rng(0)
    x, w, b, dy, s = (draw.standard_normal(d).astype(dtype) for d in ((m, k), (n, k), (n,), (m, n), (m, k)))
    if kind == "forward":
        return KernelCall("linear_forward", x, w, b, "relu", 0.0, None, Out((m, n)), dtype=dtype)
    if kind == "backward_input":
        return KernelCall("linear_backward_input", dy, w, "relu", 0.0, s, Out((m, k)), dtype=dtype)
    return KernelCall("linear_backward_weight", dy, x, False, Out((n, k)), Out((n,)), dtype=dtype)


def memory_case(name: str, elements: int) -> KernelCall:
    """The kernel of that name in MEMORY_CASES, on tensors of so many float32."""
    return MEMORY_CASES[name](elements)


def _values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _unary(name: str) -> Callable[[int], KernelCall]:
    return lambda n: KernelCall(f"{name}_forward", _values(n), Out((n,)))


def _unary_backward(name: str) -> Callable[[int], KernelCall]:
    return lambda n: KernelCall(f"{name}_backward", _values(n), _values(n), Out((n,)))


def _binary(name: str) -> Callable[[int], KernelCall]:
    return lambda n: KernelCall(name, _values(n), _values(n), Out((n,)))


def _cross_entropy(n: int) -> KernelCall:
    rows = n // CLASSES
    target = np.random.default_rng(1).integers(0, CLASSES, rows)
    denominator = np.full(1, rows, np.float32)
    return KernelCall(
        "cross_entropy_forward", _values(rows, CLASSES), target, None, None, denominator, -100, 0.0,
        Out((rows,)), Out((rows, CLASSES)),
    )  # fmt: skip


def _sgd(momentum: float) -> Callable[[int], KernelCall]:
    hyper = np.array([2, 1e-3, 0, momentum, 0])
    return lambda n: KernelCall("sgd_step", hyper, [_values(n)], [_values(n)] if momentum else [], False, [_values(n)])


def adam(n: int) -> KernelCall:
    """Step 10 of Adam on n parameters."""
    hyper = np.array([10, 1e-3, 0, 0.9, 0.999, 1e-8, 0.9**10, 0.999**10])
    return KernelCall("adam_step", hyper, [_values(n)], [_values(n)], [np.square(_values(n))], [], [_values(n)])


_ACTIVATIONS = ("relu", "exp", "sigmoid", "tanh", "gelu")
MEMORY_CASES: dict[str, Callable[[int], KernelCall]] = {
    **{name: _unary(name) for name in _ACTIVATIONS},
    **{f"{name} backward": _unary_backward(name) for name in _ACTIVATIONS},
    "add": _binary("add"),
    "mul": _binary("mul"),
    "sum": lambda n: KernelCall("reduce_sum", _values(1, n, 1), Out((1, 1))),
    "cross-entropy with gradient": _cross_entropy,
    "SGD": _sgd(0.0),
    "SGD with momentum": _sgd(0.9),
    "Adam": adam,
}
