"""run_epoch: an epoch in native calls leaves what a loop over its batches leaves, to the bit."""

from __future__ import annotations

import os
import signal
import threading as threads_of_python
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, count_variants, perceptron, training_step
from settings import native_settings_kept

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler
from fastbp.program import epoch as epochs

ROWS = 45
RULES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
    "adagrad": (optim.Adagrad, {"lr": 0.1}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "adamw amsgrad": (optim.AdamW, {"lr": 0.01, "amsgrad": True}),
}


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with native_settings_kept():
        fastbp.set_num_threads(request.param)
        yield request.param


def arrays(rows: int = ROWS, classes: int = 0, dtype: str = "float32") -> list[np.ndarray]:
    """Inputs and targets: real numbers, or classes."""
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal((rows, 5)).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)
    return [x, rng.integers(0, classes, rows) if classes else y]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def by_hand(
    step: Callable[..., Any], data: Sequence[Any], batch_size: int, order: Any = None, drop_last: bool = False
) -> list[Any]:
    """What the function returns, called in a loop over the batches."""
    columns = [np.array(a.detach().numpy() if isinstance(a, fastbp.Tensor) else a) for a in data]
    order = np.arange(len(columns[0])) if order is None else np.asarray(order)
    end = len(order) // batch_size * batch_size if drop_last else len(order)
    at = [order[begin : min(begin + batch_size, end)] for begin in range(0, end, batch_size)]
    return [snapshot(step(*(fastbp.tensor(column[rows]) for column in columns))) for rows in at]


def snapshot(value: Any) -> Any:
    """A result as it is now, if it is a parameter."""
    if isinstance(value, fastbp.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: snapshot(entry) for key, entry in value.items()}
    return type(value)(map(snapshot, value)) if isinstance(value, (tuple, list)) else value


def stacked(results: Sequence[Any]) -> Any:
    """Results of many steps with a first dimension for them."""
    first = results[0]
    if isinstance(first, fastbp.Tensor):
        return fastbp.tensor(np.stack([r.detach().numpy() for r in results]))
    if isinstance(first, dict):
        return {key: stacked([r[key] for r in results]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(stacked(column) for column in zip(*results))
    return first


def assert_equal_epochs(
    setup: Callable[[], tuple[Any, ...]],
    data: Sequence[Any],
    batch_size: int,
    count: int = 2,
    grads: bool = False,
    require_finite: bool = False,
    **options: Any,
) -> Any:
    """Runs epochs by hand and natively, and compares results and state after each; returns the compiled function."""
    order = options.get("permutation")
    drop_last = options.get("drop_last", False)
    fastbp.manual_seed(5)
    step, *state = setup()
    expected = [
        all_state((stacked(by_hand(step, data, batch_size, order, drop_last)), state), grads) for _ in range(count)
    ]
    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step, keep_grads=grads, require_finite=require_finite)
    for number in range(count):
        results = compiled.run_epoch(data, batch_size, **options)
        assert_same(expected[number], all_state((results, state), grads), f"epoch {number}: ")
    return compiled


def training(rule: str = "nesterov", make: Callable[[], nn.Module] = network, loss: Any = F.mse_loss) -> Any:
    def setup():
        model = make()
        kind, options = RULES[rule]
        optimizer = kind(model.parameters(), **options)
        return training_step(model, optimizer, loss), model, optimizer

    return setup


def shuffled(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(3).permutation(rows)


# --- equal to a loop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer(rule, threads):
    for order in (None, shuffled()):
        compiled = assert_equal_epochs(training(rule), arrays(), 10, permutation=order)
        assert count_variants(compiled) == 2  # of whole batches, and of the last


@pytest.mark.parametrize("batch_size", [1, 7, 15, 44, 45, 46, 1000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_batch_size(batch_size, drop_last, threads):
    if drop_last and batch_size > ROWS:
        return
    for order in (None, shuffled()):
        options = {"permutation": order, "drop_last": drop_last}
        compiled = assert_equal_epochs(training("adam"), arrays(), batch_size, **options)
        ragged = ROWS % batch_size and not drop_last and batch_size < ROWS
        assert count_variants(compiled) == 1 + bool(ragged)


@pytest.mark.parametrize("require_finite", [False, True])
def test_classes(require_finite, threads):
    setup = training("adam", loss=F.cross_entropy)
    assert_equal_epochs(setup, arrays(classes=3), 8, permutation=shuffled(), require_finite=require_finite)


def test_chunks_in_every_step(threads):
    data = arrays(2700)
    assert_equal_epochs(training("adam"), data, 600, permutation=shuffled(2700))


def test_layers_with_panels(threads):
    def make():
        return nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 3))

    assert_equal_epochs(training("adam", make), arrays(), 10, permutation=shuffled())


def test_float64(threads):
    assert_equal_epochs(training(make=lambda: network().to(dtype=fastbp.float64)), arrays(dtype="float64"), 10)


def test_a_seed_is_the_permutation_of_its_generator(threads):
    order = fastbp.randperm(ROWS, generator=fastbp.Generator(9))
    seen = []
    for options in ({"permutation": order}, {"seed": 9}):
        fastbp.manual_seed(5)
        step, *state = training()()
        results = fastbp.compile(step).run_epoch(arrays(), 10, **options)
        seen.append(all_state((results, state), False))
    assert_same(*seen)
    assert_equal_epochs(training(), arrays(), 10, permutation=order.numpy())


@pytest.mark.parametrize(
    "order",
    [[4, 3, 2, 1, 0] * 4, [7] * 12, list(range(44, -1, -2)), [1]],
    ids=["part", "one row", "every other", "one"],
)
def test_an_order_may_leave_rows_out_and_repeat_them(order):
    for kind in (list, np.array, lambda o: np.array(o, np.int32), lambda o: fastbp.tensor(np.array(o))):
        fastbp.manual_seed(5)
        step, *state = training()()
        expected = all_state((stacked(by_hand(step, arrays(), 5, order)), state), False)
        fastbp.manual_seed(5)
        step, *state = training()()
        got = fastbp.compile(step).run_epoch(arrays(), 5, permutation=kind(order))
        assert_same(expected, all_state((got, state), False))


def test_only_a_forward_pass():
    model = network().eval()
    compiled = assert_equal_epochs(lambda: (lambda x: model(x).sum(0), model), arrays()[:1], 10, drop_last=True)
    assert compiled.run_epoch(arrays()[:1], 10, drop_last=True).shape == (4, 3)
    with fastbp.no_grad():
        assert compiled.run_epoch(arrays()[:1], 10, drop_last=True).shape == (4, 3)


def test_modes_and_changed_options_between_epochs():
    fastbp.manual_seed(5)
    step, model, optimizer = training()()
    fastbp.manual_seed(5)
    other, twin, its = training()()
    compiled = fastbp.compile(other)
    fastbp.manual_seed(5)
    expected, got = [], []
    for run, net, rule, seen in (
        (lambda: stacked(by_hand(step, arrays(), 10)), model, optimizer, expected),
        (lambda: compiled.run_epoch(arrays(), 10), twin, its, got),
    ):
        fastbp.manual_seed(6)
        for epoch in range(4):
            net.train(epoch != 1)
            rule.param_groups[0]["lr"] = 0.1 / (epoch + 1)
            if epoch == 3:
                rule.param_groups[0]["weight_decay"] = 0.1
            seen.append(all_state((run(), net, rule), False))
    for a, b in zip(expected, got):
        assert_same(a, b)


# --- results ----------------------------------------------------------------------------------------------------------


def several(kind: str) -> Callable[[], tuple[Any, ...]]:
    def setup():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        inner = training_step(model, optimizer)

        def step(x, y):
            prediction = model(x).detach()
            loss = inner(x, y)
            right = (prediction.argmax(1) == y.argmax(1)).to(fastbp.int64).sum()
            given = {
                "tuple": (loss, right, prediction.sum(0)),
                "one in a tuple": (loss,),
                "list": [loss, loss * 2],
                "dict": {"loss": loss, "right": right, "more": (prediction.amax(), [right > 2])},
                "nothing": None,
                "a view": prediction.sum(0)[1:],
                "the same twice": (loss, loss),
                "a number": (loss, 3, "words"),
            }
            return given[kind]

        return step, model, optimizer

    return setup


KINDS = ["tuple", "one in a tuple", "list", "dict", "nothing", "a view", "the same twice", "a number"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_result(kind, threads):
    assert_equal_epochs(several(kind), arrays(), 10, permutation=shuffled())


def test_results_of_rows_need_whole_batches():
    model = network().eval()
    compiled = fastbp.compile(lambda x: model(x))
    x = arrays()[0]
    got = compiled.run_epoch([x], 10, drop_last=True)
    assert got.shape == (4, 10, 3)
    np.testing.assert_array_equal(got.numpy().reshape(40, 3), model(fastbp.tensor(x[:40])).detach().numpy())
    with pytest.raises(ValueError, match=r"^\[run_epoch\] expected results of one shape in all steps, got"):
        compiled.run_epoch([x], 10)


def test_results_stay_as_they_were():
    compiled = fastbp.compile(training()()[0])
    first = compiled.run_epoch(arrays(), 10)
    before = first.numpy().copy()
    compiled.run_epoch(arrays(), 10)
    np.testing.assert_array_equal(first.numpy(), before)


def test_a_parameter_among_the_results_is_as_it_was_after_each_step():
    def setup():
        step, model, optimizer = training()()
        return lambda x, y: (step(x, y), model[0].bias), model, optimizer

    assert_equal_epochs(setup, arrays(), 10)


# --- what steps are made of -------------------------------------------------------------------------------------------

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "linear": lambda o: lr_scheduler.LinearLR(o, total_iters=7),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=60),
}


def scheduled(name: str, rule: str) -> Callable[[], tuple[Any, ...]]:
    def setup():
        model = network()
        kind, options = RULES[rule]
        optimizer = kind(model.parameters(), **options)
        schedule = SCHEDULES[name](optimizer)
        inner = training_step(model, optimizer)

        def step(x, y):
            loss = inner(x, y)
            schedule.step()
            return loss

        return step, model, optimizer, schedule

    return setup


@pytest.mark.parametrize("rule", ["sgd", "nesterov", "adam", "rmsprop centered"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_stepped_for_each_batch(name, rule):
    if (name, rule) in (("one cycle", "sgd"), ("one cycle", "rmsprop centered")):
        return  # cycles a momentum, which must not be 0
    assert_equal_epochs(scheduled(name, rule), arrays(), 5, permutation=shuffled(), count=3)


def test_two_optimizers_with_their_schedules(threads):
    def setup():
        first, second = perceptron(), perceptron()
        rules = optim.SGD(first.parameters(), lr=0.1, momentum=0.9), optim.Adam(second.parameters(), lr=0.01)
        schedules = lr_scheduler.StepLR(rules[0], 2), lr_scheduler.ExponentialLR(rules[1], 0.8)
        steps = training_step(first, rules[0]), training_step(second, rules[1])

        def step(x, y):
            results = [run(x, y) for run in steps]
            for schedule in schedules:
                schedule.step()
            return results

        return step, first, second, *rules, *schedules

    assert_equal_epochs(setup, arrays(), 5, count=3)


def test_clipping_and_groups_with_their_own_options(threads):
    def setup():
        model = network()
        groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[3].parameters(), "momentum": 0.5}]
        optimizer = optim.SGD(groups, lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            return loss, norm

        return step, model, optimizer

    assert_equal_epochs(setup, arrays(), 10, permutation=shuffled())


@pytest.mark.parametrize("kind", ["gradients kept", "gradients that grow", "a buffer", "an argument changed"])
def test_functions_that_do_more_than_a_step(kind):
    def setup():
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        total = fastbp.zeros(5)
        inner = training_step(model, optimizer)

        def step(x, y):
            if kind == "gradients that grow":
                loss = F.mse_loss(model(x), y)
                loss.backward()
                return loss
            if kind == "a buffer":
                total.add_(x.sum(0))
            if kind == "an argument changed":
                x.mul_(2)
            return inner(x, y)

        return step, model, optimizer, total

    data = arrays()
    before = [a.copy() for a in data]
    assert_equal_epochs(setup, data, 10, grads=True)
    if kind != "gradients kept":
        assert_equal_epochs(setup, data, 10, grads=kind == "gradients that grow")
    for a, b in zip(data, before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("context", [lambda: fastbp.backend("reference"), fastbp.check], ids=["reference", "check"])
def test_other_backends(context):
    with context():
        assert_equal_epochs(training("adam"), arrays(), 10, permutation=shuffled(), count=1)
    seen = []
    for where in (fastbp.no_grad, context):  # no_grad: the function turns gradients on for itself
        fastbp.manual_seed(5)
        step, model, _ = training("adam")()
        with where(), fastbp.enable_grad():
            loss = fastbp.compile(step).run_epoch(arrays(), 10)
        seen.append([loss.numpy(), *[p.detach().numpy() for p in model.parameters()]])
    for native, other in zip(*seen):
        np.testing.assert_allclose(native, other, rtol=1e-4, atol=1e-5)


# --- recordings -------------------------------------------------------------------------------------------------------


def test_further_epochs_and_calls_need_no_new_recording():
    compiled = fastbp.compile(training()()[0])
    data = arrays()
    compiled.run_epoch(data, 10, seed=1)
    for seed in (2, 3):
        compiled.run_epoch(data, 10, seed=seed)
    compiled(*(fastbp.tensor(a[:10]) for a in data))
    compiled(*(fastbp.tensor(a[:5]) for a in data))
    compiled.run_epoch([np.array(a) for a in data], 10)
    compiled.run_epoch([fastbp.tensor(a[:40]) for a in data], 10)
    assert count_variants(compiled) == 2


def test_most_steps_are_run_natively():
    calls = []
    step = training()()[0]

    def counted(x, y):
        calls.append(x.shape)
        return step(x, y)

    epoch = epochs.Epoch(fastbp.compile(counted), arrays(), 5, None, False)
    turns = list(epoch)
    assert sum(turns) == epoch.steps == 9
    assert calls == [(5, 5)]  # its Python code runs once, to be recorded
    assert len(turns) < 9


# --- arrays -----------------------------------------------------------------------------------------------------------


def variants_of(data: list[np.ndarray], kind: str, folder: Path) -> list[Any]:
    if kind == "tensors":
        return [fastbp.tensor(a) for a in data]
    if kind == "mixed":
        return [fastbp.tensor(data[0]), data[1]]
    if kind == "that require grad":
        return [fastbp.tensor(data[0], requires_grad=True), data[1]]
    if kind == "with history":
        return [fastbp.tensor(data[0], requires_grad=True) * 1, data[1]]
    if kind == "read-only":
        for a in data:
            a.flags.writeable = False
    if kind in ("mapped", "mapped for reading"):
        for i, a in enumerate(data):
            np.save(folder / f"{i}.npy", a)
        return [np.load(folder / f"{i}.npy", mmap_mode="r" if "reading" in kind else "r+") for i in range(len(data))]
    if kind == "strided":
        return [np.repeat(a, 2, axis=0)[::2] for a in data]
    if kind == "transposed":
        return [np.asfortranarray(a) for a in data]
    if kind == "strided tensors":
        return [fastbp.tensor(np.repeat(a, 2, axis=0))[::2] for a in data]
    return data


@pytest.mark.parametrize(
    "kind",
    "arrays|tensors|mixed|that require grad|with history|read-only|mapped|mapped for reading|strided|transposed"
    "|strided tensors".split("|"),
)
def test_every_kind_of_array(kind, tmp_path):
    for order in (None, shuffled()):
        given = variants_of(arrays(), kind, tmp_path)
        before = [np.array(a.detach().numpy() if isinstance(a, fastbp.Tensor) else a) for a in given]
        compiled = assert_equal_epochs(training(), given, 10, permutation=order)
        assert count_variants(compiled) == 2
        for a, b in zip(given, before):
            np.testing.assert_array_equal(a.detach().numpy() if isinstance(a, fastbp.Tensor) else a, b)
            assert not isinstance(a, fastbp.Tensor) or a.grad is None


def test_arrays_changed_between_epochs():
    data = arrays()
    fastbp.manual_seed(5)
    step, *state = training()()
    expected = []
    for _ in range(3):
        expected.append(all_state((stacked(by_hand(step, data, 10)), state), False))
        data[0] *= 0.5
    data = arrays()
    fastbp.manual_seed(5)
    step, *state = training()()
    compiled = fastbp.compile(step)
    for before in expected:
        assert_same(before, all_state((compiled.run_epoch(data, 10), state), False))
        data[0] *= 0.5


def test_rows_of_more_dimensions_and_of_one():
    x = np.random.default_rng(0).standard_normal((20, 2, 3)).astype(np.float32)
    w = np.random.default_rng(1).random(20) > 0.5

    def setup():
        layer = nn.Linear(6, 3)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(a, keep):
            optimizer.zero_grad()
            loss = (layer(a.reshape(-1, 6)).square().sum(1) * keep.to(fastbp.float32)).sum()
            loss.backward()
            optimizer.step()
            return loss

        return step, layer, optimizer

    assert_equal_epochs(setup, [x, w], 6, permutation=shuffled(20))


def test_three_arrays_and_one(threads):
    x, y = arrays()
    weight = np.random.default_rng(2).random(ROWS).astype(np.float32)

    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters())
        step = training_step(model, optimizer, lambda p, t: ((p - t[:, :3]).square().sum(1) * t[:, 3]).sum())
        return lambda a, b, c: step(a, fastbp.cat([b, c.unsqueeze(1)], dim=1)), model, optimizer

    assert_equal_epochs(setup, [x, y, weight], 10, permutation=shuffled())


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"arrays": []}, ValueError, "expected arrays of equal length, got shapes []"),
        ({"arrays": [np.ones((4, 5), np.float32), np.ones((5, 3), np.float32)]}, ValueError, "arrays of equal length"),
        ({"arrays": [np.float32(1), np.float32(2)]}, ValueError, "expected arrays of equal length"),
        ({"arrays": [np.ones((0, 5), np.float32), np.ones((0, 3), np.float32)]}, ValueError, "at least one batch"),
        ({"batch_size": 0}, ValueError, "expected batch_size >= 1, got 0"),
        ({"batch_size": -3}, ValueError, "expected batch_size >= 1, got -3"),
        ({"batch_size": 2.5}, TypeError, "integer"),
        ({"batch_size": 46, "drop_last": True}, ValueError, "expected at least one batch of 46 rows, got 45 rows"),
        ({"permutation": [0, 45]}, ValueError, "expected a permutation of integers from 0 to 44, got"),
        ({"permutation": [0, -1]}, ValueError, "expected a permutation of integers from 0 to 44, got"),
        ({"permutation": [[0, 1]]}, ValueError, "expected a permutation of integers from 0 to 44, got"),
        ({"permutation": []}, ValueError, "at least one batch of 10 rows, got 0 rows"),
        ({"permutation": [0.5, 1.0]}, ValueError, "expected a permutation of integers from 0 to 44, got"),
        ({"permutation": [0, 1], "seed": 3}, ValueError, "expected a permutation or a seed, got both"),
    ],
)
@pytest.mark.parametrize("calls_before", [0, 1])
def test_refused_with_one_sentence_and_nothing_changed(options, error, message, calls_before):
    fastbp.manual_seed(5)
    step, *state = training()()
    compiled = fastbp.compile(step)
    for _ in range(calls_before):
        compiled.run_epoch(arrays(), 10)
    before = all_state(state)
    given = {"arrays": arrays(), "batch_size": 10, **options}
    with pytest.raises(error) as caught:
        compiled.run_epoch(**given)
    assert message in str(caught.value)
    assert error is not ValueError or str(caught.value).startswith("[run_epoch] ")
    assert_same(before, all_state(state))


@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize("label", [-1, 3, 100])
@pytest.mark.parametrize("at", [0, 24, 44])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_label_out_of_range_changes_nothing(calls_before, at, label, schedule):
    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters())
        halving = lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
        inner = training_step(model, optimizer, F.cross_entropy)

        def step(x, y):
            loss = inner(x, y)
            if schedule:
                halving.step()
            return loss

        return step, model, optimizer, halving

    x, y = arrays(classes=3)
    bad = y.copy()
    bad[at] = label
    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step)
    for _ in range(calls_before):
        compiled.run_epoch([x, y], 10)
    before = all_state(state)
    for _ in range(2):
        with pytest.raises(IndexError, match=str(label)):
            compiled.run_epoch([x, bad], 10)
        assert_same(before, all_state(state))
    compiled.run_epoch([x, y], 10)


def test_a_function_that_cannot_be_compiled_says_so():
    fastbp.manual_seed(5)
    step, *state = training()()
    compiled = fastbp.compile(lambda x, y: step(x, y).item())
    before = all_state(state, False)
    with pytest.raises(fastbp.CompileError, match="return the tensor and read it outside"):
        compiled.run_epoch(arrays(), 10)
    assert_same(before, all_state(state, False))


# --- losses that are not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "step", "one cycle"])
@pytest.mark.parametrize("bad", [0, 1, 3, 8, 9])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_steps_before_a_loss_that_is_not_finite_stand(calls_before, bad, name, threads):
    """45 rows are nine batches of 5 without the tenth of 2."""
    x, y = arrays(47)
    spoiled = x.copy()
    spoiled[5 * bad + 1] = np.nan
    setup = training("adam") if name is None else scheduled(name, "adam")
    fastbp.manual_seed(5)
    step, *state = setup()
    for _ in range(calls_before):
        by_hand(step, [x, y], 5)
    by_hand(step, [x[: 5 * bad], y[: 5 * bad]], 5)
    expected = all_state(state, False)

    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step, require_finite=True)
    for _ in range(calls_before):
        compiled.run_epoch([x, y], 5)
    with pytest.raises(FloatingPointError, match=rf"finite first result, got -?nan in step {bad}$"):
        compiled.run_epoch([spoiled, y], 5)
    assert_same(expected, all_state(state, False))
    compiled.run_epoch([x, y], 5)


# --- schedules that end or raise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ends", "raises"])
def test_a_schedule_that_raises_does_so_after_its_step(kind):
    """Schedules are stepped in advance: not further than the steps that are taken."""

    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def factor(t):
            return 1 / (7 - t)  # of the seventh step there is none

        schedule = (
            lr_scheduler.LambdaLR(optimizer, factor)
            if kind == "raises"
            else lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=7, cycle_momentum=False)
        )
        inner = training_step(model, optimizer)

        def step(x, y):
            loss = inner(x, y)
            schedule.step()
            return loss

        return step, model, optimizer, schedule

    data = arrays()
    seen = []
    for run in (by_hand, lambda step, *given: fastbp.compile(step).run_epoch(*given)):
        fastbp.manual_seed(5)
        step, *state = setup()
        with pytest.raises((ZeroDivisionError, ValueError)) as caught:
            run(step, data, 5)
        seen.append([("message", str(caught.value)), *all_state(state, False)])
    assert_same(*seen)


def test_ctrl_c_while_schedules_are_stepped():
    pressed = []

    def factor(t):
        if t == 20 and not pressed:
            pressed.append(t)
            raise KeyboardInterrupt
        return 1 / (1 + t)

    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        schedule = lr_scheduler.LambdaLR(optimizer, factor)
        inner = training_step(model, optimizer)

        def step(x, y):
            loss = inner(x, y)
            schedule.step()
            return loss

        return step, model, optimizer, schedule

    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step)
    with pytest.raises(KeyboardInterrupt):
        compiled.run_epoch(arrays(), 1)
    done = int(state[1]._cohorts[0].cells[0])
    assert done == state[2].last_epoch <= 20
    got = all_state(state, False)
    fastbp.manual_seed(5)
    step, *state = setup()
    by_hand(step, [a[:done] for a in arrays()], 1)
    assert_same(all_state(state, False), got)


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_schedule", [False, True])
def test_ctrl_c_leaves_the_steps_before_it(with_schedule):
    rows = 400_000 if not with_schedule else 100_000

    def setup():
        model = nn.Linear(2, 1)
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        schedule = lr_scheduler.ExponentialLR(optimizer, 0.99999)
        inner = training_step(model, optimizer)

        def step(x, y):
            loss = inner(x, y)
            if with_schedule:
                schedule.step()
            return loss

        return step, model, optimizer, schedule

    rng = np.random.default_rng(0)
    data = [rng.standard_normal((rows, 2)).astype(np.float32), rng.standard_normal((rows, 1)).astype(np.float32)]
    fastbp.manual_seed(5)
    step, *state = setup()
    cells = state[1]._cohorts[0].cells
    compiled = fastbp.compile(step)
    over = threads_of_python.Event()

    def interrupt():
        while cells[0] < 2000 and not over.wait(0.001):
            pass
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    helper = threads_of_python.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled.run_epoch(data, 1)
    finally:
        over.set()
        helper.join()
        signal.signal(signal.SIGINT, before)
    done = int(cells[0])
    assert 0 < done < rows
    after = all_state(state, False)
    compiled.run_epoch([a[done : done + 10] for a in data], 1)
    further = all_state(state, False)

    fastbp.manual_seed(5)
    step, *state = setup()
    compiled = fastbp.compile(step)
    compiled.run_epoch([a[:done] for a in data], 1)
    assert_same(all_state(state, False), after)
    compiled.run_epoch([a[done : done + 10] for a in data], 1)
    assert_same(all_state(state, False), further)
