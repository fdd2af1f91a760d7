"""require_finite: a run whose first result is NaN or infinite raises, and everything is as before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, batch, labelled, training_setup, training_step
from settings import numbers_of_threads

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler

RULES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    "adamw": (optim.AdamW, {"lr": 0.01}),
}
BAD = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
threads = numbers_of_threads(1, 2, 3)


def network(inputs: int = 5, hidden: int = 16, outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Dropout(0.3), nn.Linear(hidden, outputs))


def spoiled(data: tuple[Any, Any], value: float, where: str = "x", row: int = -1) -> tuple[Any, Any]:
    """A batch with one bad number in its inputs or targets."""
    x, y = (t.detach().numpy().copy() for t in data)
    (x if where == "x" else y)[row, 0] = value
    return fastbp.tensor(x), fastbp.tensor(y)


def assert_skips(
    setup: Callable[[], Any], batches: list[Any], bad: set[int], message: str = "finite first result, got"
) -> None:
    """A guarded program over all batches leaves what the function does that is not given the bad ones."""
    fastbp.manual_seed(3)
    eager, *state = setup()
    expected = {t: all_state((eager(*data), state), False) for t, data in enumerate(batches) if t not in bad}
    fastbp.manual_seed(3)
    step, *state = setup()
    compiled = fastbp.compile(step, require_finite=True)
    for t, data in enumerate(batches):
        if t in bad:
            before = all_state(state)
            with pytest.raises(FloatingPointError, match=message):
                compiled(*data)
            assert_same(before, all_state(state), f"after the bad batch {t}: ")
        else:
            assert_same(expected[t], all_state((compiled(*data), state), False), f"batch {t}: ")


def training(rule: str, make: Callable[[], nn.Module] = network, loss: Callable[..., Any] = F.mse_loss) -> Any:
    return training_setup(make, RULES[rule], loss)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("rule", RULES)
def test_a_bad_batch_changes_nothing_and_training_goes_on(rule, value, threads):
    batches = [batch(t) for t in range(6)]
    for t, where in ((0, "x"), (2, "y"), (3, "x"), (5, "y")):
        # Of an infinite input tanh makes a finite loss: its gradient is NaN, but only the loss is looked at.
        batches[t] = spoiled(batches[t], BAD[value], where if value == "nan" else "y")
    assert_skips(training(rule), batches, {0, 2, 3, 5})


@pytest.mark.parametrize("rule", ["nesterov", "adam"])
@pytest.mark.parametrize("rows", [1, 3, 600, 1300])
def test_any_number_of_rows(rows, rule, threads):
    batches = [batch(t, rows) for t in range(4)]
    batches[1] = spoiled(batches[1], np.nan, row=0)
    batches[2] = spoiled(batches[2], np.nan, row=rows - 1)
    assert_skips(training(rule), batches, {1, 2})


@pytest.mark.parametrize("rule", ["nesterov", "adam"])
def test_layers_that_all_threads_share(rule, threads):
    def make():
        return network(64, 160, 96)

    batches = [batch(t, 64, 64, 96) for t in range(4)]
    batches[2] = spoiled(batches[2], np.nan)
    assert_skips(training(rule, make), batches, {2})


def test_classes(threads):
    batches = [labelled(t, 40) for t in range(4)]
    x = batches[1][0].numpy().copy()
    x[17] = np.nan
    batches[1] = fastbp.tensor(x), batches[1][1]
    assert_skips(training("adam", loss=F.cross_entropy), batches, {1})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_dtypes(dtype, threads):
    def make():
        return network().to(dtype=getattr(fastbp, dtype))

    batches = [batch(t, dtype=dtype) for t in range(3)]
    batches[1] = spoiled(batches[1], np.inf, "y")
    assert_skips(training("amsgrad", make), batches, {1}, "got inf")


def test_a_loss_that_overflows_though_the_data_do_not(threads):
    batches = [batch(t) for t in range(3)]
    batches[1] = spoiled(batches[1], 1e30, "y")
    assert_skips(training("sgd"), batches, {1}, "got inf")


def test_random_numbers_drawn_after_the_loss(threads):
    def setup():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        noise = fastbp.zeros(16, 5)

        def step(x, y):
            loss = training_step(model, optimizer)(x, y)
            noise.copy_(fastbp.randn(16, 5))
            with fastbp.no_grad():
                model[0].weight.add_(noise * 0.01)
            return loss

        return step, model, optimizer, noise

    batches = [batch(t) for t in range(4)]
    batches[1] = spoiled(batches[1], np.nan)
    assert_skips(setup, batches, {1})


def test_a_buffer_written_before_the_loss(threads):
    """A running mean of the inputs, as some layers keep."""

    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters())
        mean, calls = fastbp.zeros(5), fastbp.zeros(())

        def step(x, y):
            with fastbp.no_grad():
                mean.mul_(0.9).add_(x.mean(0) * 0.1)
                calls.add_(1)
            return training_step(model, optimizer)(x - mean, y)

        return step, model, optimizer, mean, calls

    batches = [batch(t) for t in range(4)]
    batches[1] = spoiled(batches[1], np.nan)
    assert_skips(setup, batches, {1})


def test_a_schedule_inside(threads):
    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)

        def step(x, y):
            loss = training_step(model, optimizer)(x, y)
            schedule.step()
            return loss

        return step, model, optimizer, schedule

    batches = [batch(t) for t in range(5)]
    batches[0], batches[2] = spoiled(batches[0], np.nan), spoiled(batches[2], np.nan)
    assert_skips(setup, batches, {0, 2})


def test_clipping_and_several_results(threads):
    def setup():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            optimizer.zero_grad()
            prediction = model(x)
            loss = F.mse_loss(prediction, y)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            return loss, prediction, {"norm": norm, "twice": loss * 2}

        return step, model, optimizer

    batches = [batch(t) for t in range(4)]
    batches[2] = spoiled(batches[2], np.nan)
    assert_skips(setup, batches, {2})


def test_two_steps_of_one_function(threads):
    """The second step comes after the first result: if that is finite, both stand."""

    def setup():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step = training_step(model, optimizer)

        def both(x, y):
            first, _ = (F.mse_loss(model(x), y) for _ in range(2))
            return first, step(x, y), step(x, y)

        return both, model, optimizer

    batches = [batch(t) for t in range(4)]
    batches[1] = spoiled(batches[1], np.nan)
    assert_skips(setup, batches, {1})


def test_gradients_stay_as_they_were(threads):
    model = network()
    with fastbp.no_grad():
        kept = [fastbp.ones(*p.shape) for p in model.parameters()]
    for p, g in zip(model.parameters(), kept):
        p.grad = g

    def add(x, y):
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    compiled = fastbp.compile(add, require_finite=True)
    for _ in range(2):
        with pytest.raises(FloatingPointError):
            compiled(*spoiled(batch(), np.nan))
        assert all(p.grad is g for p, g in zip(model.parameters(), kept))
        assert all((g.numpy() == 1).all() for g in kept)


@pytest.mark.parametrize("context", [lambda: fastbp.backend("reference"), fastbp.check], ids=["reference", "check"])
def test_other_backends(context):
    batches = [batch(t) for t in range(4)]
    batches[0], batches[2] = spoiled(batches[0], np.nan), spoiled(batches[2], np.nan)
    with context(), np.errstate(all="ignore"):
        assert_skips(training("adam"), batches, {0, 2})


def test_weights_that_are_not_finite_are_told_from_the_loss():
    """Only the first result is looked at: what becomes of the weights after it is the next call's concern."""
    layer = nn.Linear(2, 1)
    optimizer = optim.SGD(layer.parameters(), lr=1e38)
    step = fastbp.compile(training_step(layer, optimizer), require_finite=True)
    x, y = fastbp.tensor([[1e3, 1e3]]), fastbp.tensor([[1.0]])
    assert np.isfinite(step(x, y).item())
    assert not np.isfinite(layer.weight.detach().numpy()).all()
    before = layer.weight.detach().numpy().copy()
    with pytest.raises(FloatingPointError):
        step(x, y)
    np.testing.assert_array_equal(layer.weight.detach().numpy(), before)


def test_without_it_nothing_is_raised():
    layer = nn.Linear(5, 3)
    step = fastbp.compile(training_step(layer, optim.SGD(layer.parameters(), lr=0.1)))
    assert np.isnan(step(*spoiled(batch(), np.nan)).item())
    assert np.isnan(layer.weight.detach().numpy()).any()


@pytest.mark.parametrize(
    "kind", ["many", "a parameter", "a parameter first", "an argument", "an integer", "nothing", "many first"]
)
def test_other_first_results_are_refused(kind):
    w = fastbp.ones(())

    def function(x):
        given = {"many": x * 2, "a parameter": w, "a parameter first": (w, x.sum()), "an argument": x[0]}
        given |= {"nothing": None, "an integer": x.argmax() - 1, "many first": (x * 2, x.sum())}
        return given[kind]

    with pytest.raises(fastbp.CompileError, match="a first result of one number, computed by the function"):
        fastbp.compile(function, require_finite=True)(fastbp.tensor([1.0, 2.0]))


def test_large_memory_that_is_overwritten_before_the_loss_is_refused():
    table = fastbp.zeros(600, 600)

    def function(x):
        table.copy_(x)
        return table.sum()

    with pytest.raises(fastbp.CompileError, match="compute the loss first, or leave out require_finite"):
        fastbp.compile(function, require_finite=True)(fastbp.ones(600, 600))
    assert not table.numpy().any()
