"""A function run operation by operation and the same compiled: what both leave must be equal to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import fastbp
from fastbp import nn, optim
from fastbp.ops.random import default_generator
from fastbp.optim.lr_scheduler import LRScheduler

Setup = Callable[[], tuple[Any, ...]]


def state_of(value: Any, grads: bool, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, array or plain value) of all that a result or a part of the training state holds."""
    if isinstance(value, fastbp.Tensor):
        yield name, value.detach().numpy().copy()
        if grads:
            yield f"{name}.grad", None if value.grad is None else value.grad.detach().numpy().copy()
    elif isinstance(value, nn.Module):
        yield f"{name}.training", value.training
        for key, tensor in value.state_dict(keep_vars=True).items():
            yield from state_of(tensor, grads, f"{name}.{key}")
    elif isinstance(value, optim.Optimizer):
        for i, cohort in enumerate(value._cohorts):
            yield f"{name} cells {i}", cohort.cells.copy()
        for i, group in enumerate(value.param_groups):
            yield f"{name} group {i}", {k: v for k, v in group.items() if k != "params"}
            for j, p in enumerate(group["params"]):
                yield from state_of(dict(value.state[p]), grads, f"{name} state {i}, {j}")
    elif isinstance(value, LRScheduler):
        yield name, {k: v for k, v in value.state_dict().items() if not callable(v)}
    elif isinstance(value, (tuple, list)):
        for i, entry in enumerate(value):
            yield from state_of(entry, grads, f"{name}[{i}]")
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from state_of(entry, grads, f"{name}[{key!r}]")
    else:
        yield name, value


def all_state(state: Any, grads: bool = True) -> list[tuple[str, Any]]:
    """What `state_of` finds, and where the random numbers stand."""
    return [*state_of(state, grads), ("random state", default_generator.get_state())]


def assert_same(expected: Sequence[tuple[str, Any]], got: Sequence[tuple[str, Any]], where: str = "") -> None:
    assert [name for name, _ in expected] == [name for name, _ in got], where
    for (name, a), (_, b) in zip(expected, got):
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape, f"{where}{name}"
            if a.tobytes() != b.tobytes():
                np.testing.assert_array_equal(b, a, err_msg=f"{where}{name}", strict=True)
                assert a.dtype.kind == "f" and np.isnan(a).any(), f"{where}{name}: zeros of other signs"
        else:
            assert type(a) is type(b) and a == b, f"{where}{name}: expected {a!r}, got {b!r}"


def trace(
    setup: Setup,
    calls: Sequence[Any],
    wrap: Callable[[Any], Any],
    between: Callable[..., Any] | None = None,
    grads: bool = True,
) -> tuple[list[Any], Any]:
    """The state after every call, and the function that was called.

    setup: gives the function, then what it changes. calls: the arguments of each, a tuple or, for arguments that keep a
    gradient, a function that makes it. between: is told the number of the call that follows, and the state.
    """
    fastbp.manual_seed(11)
    function, *state = setup()
    called = wrap(function)
    seen = []
    for t, args in enumerate(calls):
        if between is not None:
            between(t, *state)
        args = args() if callable(args) else args
        result = called(*args[:-1], **args[-1]) if args and isinstance(args[-1], Keywords) else called(*args)
        inputs = [a for a in args if isinstance(a, fastbp.Tensor)]
        seen.append([*all_state((result, state), grads), *state_of(inputs, True, "arguments")])
    return seen, called


class Keywords(dict):
    """The last of the arguments where some go by name."""


def assert_same_run(
    setup: Setup,
    calls: Sequence[Any],
    between: Callable[..., Any] | None = None,
    variants: int | None = None,
) -> None:
    """Runs the function as it is and compiled, with gradients kept and not; variants: how many recordings it needs."""
    for keep in (True, False):
        expected, _ = trace(setup, calls, lambda f: f, between, keep)
        got, compiled = trace(setup, calls, lambda f, keep=keep: fastbp.compile(f, keep_grads=keep), between, keep)
        for t, (a, b) in enumerate(zip(expected, got, strict=True)):
            assert_same(a, b, f"call {t}, keep_grads={keep}: ")
        if variants is not None:
            assert count_variants(compiled) == variants


def count_variants(compiled: Any) -> int:
    return sum(len(variants) for variants in compiled._variants.values())


def batch(t: int = 0, rows: int = 8, inputs: int = 5, outputs: int = 3, dtype: Any = np.float32) -> tuple[Any, Any]:
    """Inputs and real targets of batch t, the same in every run."""
    rng = np.random.default_rng([t, rows])
    x, y = rng.standard_normal((rows, inputs)), rng.standard_normal((rows, outputs))
    return fastbp.tensor(x.astype(dtype)), fastbp.tensor(y.astype(dtype))


def labelled(t: int = 0, rows: int = 8, inputs: int = 5, classes: int = 3) -> tuple[Any, Any]:
    """Inputs and classes of batch t."""
    x, _ = batch(t, rows, inputs)
    return x, fastbp.tensor(np.random.default_rng([t, rows, 1]).integers(0, classes, rows))


def perceptron(inputs: int = 5, hidden: int = 7, outputs: int = 3) -> Any:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def training_step(model: Any, optimizer: Any, loss: Callable[..., Any] = nn.functional.mse_loss) -> Callable[..., Any]:
    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value

    return step


def training_setup(
    make: Callable[[], nn.Module],
    rule: tuple[Callable[..., optim.Optimizer], dict[str, Any]],
    loss: Callable[..., Any] = nn.functional.mse_loss,
) -> Setup:
    """A setup: a model, an optimizer of a kind with options, and the step of both."""

    def setup():
        model = make()
        kind, options = rule
        optimizer = kind(model.parameters(), **options)
        return training_step(model, optimizer, loss), model, optimizer

    return setup


def with_sgd(
    make: Callable[[], nn.Module] = perceptron, loss: Callable[..., Any] = nn.functional.mse_loss, **options: Any
) -> Setup:
    """A setup: a model, momentum, and the step of both."""
    return training_setup(make, (optim.SGD, {"lr": 0.1, "momentum": 0.9, **options}), loss)


BATCHES = [batch(t) for t in range(4)]
RULES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "decay": (optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "dampening": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01}),
    "rmsprop momentum": (optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1}),
    "adam": (optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamw": (optim.AdamW, {"lr": 0.01}),
    "adamw amsgrad": (optim.AdamW, {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.95)}),
}
