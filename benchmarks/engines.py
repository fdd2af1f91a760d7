"""Other engines at the same work: PyTorch and JAX, where they are installed.

An engine that cannot take part raises Absent with the reason, which the report repeats.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import fastbp
from fastbp.bench.workloads import LR, MOMENTUM, Step, Workload, compiled_step, eager_step, module_step, parts


class Absent(Exception):
    """Why an engine does not take part."""


def imported(name: str) -> Any:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"{name} is not installed") from error
    if name == "torch":
        module.set_num_threads(fastbp.get_num_threads())
    return module


def present(makers: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """What those engines made that are there, and the reasons of those that are not."""
    made, absent = {}, {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except Absent as reason:
            absent[name] = str(reason)
    return made, absent


# ---------------------------------------------------------------- products

Arrays = Mapping[str, np.ndarray]  # the operands of a KernelCall, by name


def torch_product(kind: str, arrays: Arrays) -> Callable[[], Any]:
    """The product with what goes along with it, into memory allocated before; returns the outputs."""
    torch = imported("torch")
    t = {name: torch.tensor(a) for name, a in arrays.items() if isinstance(a, np.ndarray)}
    if kind == "forward":
        wt = t["w"].T

        def run() -> Any:
            torch.addmm(t["b"], t["x"], wt, out=t["y"])
            return [t["y"].relu_()]
    elif kind == "backward_input":

        def run() -> Any:
            torch.mm(t["dy"], t["w"], out=t["dx"])
            torch.ops.aten.threshold_backward.grad_input(t["dx"], t["s"], 0, grad_input=t["dx"])
            return [t["dx"]]
    else:
        dyt = t["dy"].T

        def run() -> Any:
            torch.mm(dyt, t["x"], out=t["dw"])
            torch.sum(t["dy"], 0, out=t["db"])
            return [t["dw"], t["db"]]

    return torch.no_grad()(run)


def jax_product(kind: str, arrays: Arrays) -> Callable[[], Any]:
    """The same, as one jitted function."""
    if fastbp.get_num_threads() == 1:
        raise Absent("its number of threads is fixed when the process starts")
    jax = imported("jax")
    jax.config.update("jax_enable_x64", next(iter(arrays.values())).dtype == np.float64)
    formula, names = {
        "forward": (lambda x, w, b: [jax.nn.relu(x @ w.T + b)], "x w b"),
        "backward_input": (lambda dy, w, s: [jax.numpy.where(s <= 0, 0, dy @ w)], "dy w s"),
        "backward_weight": (lambda dy, x: [dy.T @ x, dy.sum(0)], "dy x"),
    }[kind]
    run = functools.partial(jax.jit(formula), *(jax.device_put(arrays[name]) for name in names.split()))
    return lambda: jax.block_until_ready(run())


PRODUCTS = {"PyTorch": torch_product, "JAX": jax_product}

# ---------------------------------------------------------------- training steps


def reference(workload: Workload) -> Step:
    step = eager_step(workload)

    def run() -> Any:
        with fastbp.backend("reference"):
            return step()

    return run


def torch_eager(workload: Workload) -> Step:
    """With the fused optimizer, which is faster than the default one."""
    torch = imported("torch")
    return module_step(torch, workload, torch.tensor, fused=True)


def torch_compiled(workload: Workload) -> Step:
    """Model and loss compiled, forward and backward; the optimizer is the fused one."""
    torch = imported("torch")
    torch._dynamo.reset()
    model, optimizer, loss_of = parts(torch, workload, torch.tensor, fused=True)
    x, y = map(torch.tensor, workload.data())
    forward = torch.compile(lambda x, y: loss_of(model(x), y))

    def step() -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss

    try:
        model(x[:1])  # what is wrong without compiling is not a reason to be absent
        forward(x, y)
    except Exception as error:
        raise Absent(f"torch.compile failed: {str(error).strip().splitlines()[0]}") from error
    return step


def jax_jit(workload: Workload) -> Step:
    """The whole step as one jitted function with donated weights and optimizer state; the optimizer is optax's."""
    jax, optax = imported("jax"), imported("optax")
    jax.config.update("jax_enable_x64", False)
    optimizer = {
        "SGD": lambda: optax.sgd(LR, momentum=MOMENTUM),
        "Adam": lambda: optax.adam(LR),
        "AdamW": lambda: optax.adamw(LR, weight_decay=0.01),
    }[workload.optimizer]()
    activate = {"ReLU": jax.nn.relu, "Tanh": jax.numpy.tanh}[workload.activation]

    def loss_of(weights: list[Any], x: Any, y: Any) -> Any:
        layers = list(zip(weights[::2], weights[1::2]))
        for i, (w, b) in enumerate(layers):
            x = x @ w.T + b
            if i + 1 < len(layers):
                x = activate(x)
        if workload.loss == "cross_entropy":
            return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
        return jax.numpy.mean((x - y) ** 2)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: Any, x: Any, y: Any) -> Any:
        weights, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
        changes, moments = optimizer.update(gradients, moments, weights)
        return (optax.apply_updates(weights, changes), moments), loss

    x, y = workload.data()
    x, y = jax.device_put(x), jax.device_put(y.astype(np.int32 if y.dtype == np.int64 else y.dtype))
    weights = [jax.device_put(w) for w in workload.weights()]
    state = (weights, optimizer.init(weights))

    def step() -> Any:
        nonlocal state
        state, loss = jax.block_until_ready(update(state, x, y))
        return loss

    return step


STEPS: dict[str, Callable[[Workload], Step]] = {
    "fastbp eager": eager_step,
    "fastbp compiled": compiled_step,
    "PyTorch eager": torch_eager,
    "PyTorch compiled": torch_compiled,
    "JAX jit": jax_jit,
    "NumPy reference": reference,
}
