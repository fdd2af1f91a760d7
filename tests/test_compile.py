"""fastbp.compile: a compiled function does what the function does, to the bit; what it cannot do it says."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
from collections import namedtuple

import numpy as np
import pytest
from compiled_runs import (
    Keywords,
    all_state,
    assert_same,
    assert_same_run,
    batch,
    count_variants,
    labelled,
    perceptron,
    state_of,
    trace,
    training_step,
)
from op_cases import BY_NAME
from settings import native_settings_kept

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler

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


def with_sgd(make_model=perceptron, loss=F.mse_loss, **options):
    """A setup: a model, momentum, and the step of both."""

    def setup():
        model = make_model()
        optimizer = optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})
        return training_step(model, optimizer, loss), model, optimizer

    return setup


# --- whole steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer(rule, dtype):
    kind, options = RULES[rule]

    def setup():
        model = perceptron().to(dtype=getattr(fastbp, dtype))
        optimizer = kind(model.parameters(), **options)
        return training_step(model, optimizer), model, optimizer

    batches = [batch(t, dtype=dtype) for t in range(4)]
    assert_same_run(setup, [*batches, batch(4, rows=3, dtype=dtype), *batches], variants=2)


@pytest.mark.parametrize("name", [op.__name__ for op in nn.activation.OPERATIONS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation_between_layers(name, dtype):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 3)

        def forward(self, x):
            h = self.first(x)
            if name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal"):
                h = h.abs() + 0.5
            options = {"softmax": [1], "log_softmax": [1], "clamp": [-0.3, 0.4]}.get(name, [])
            return self.last(getattr(F, name)(h, *options))

    assert_same_run(with_sgd(lambda: Net().to(dtype=dtype), lr=0.01), [batch(t, dtype=dtype) for t in range(3)])


def probabilities(t, rows=8, classes=3):
    values = np.random.default_rng(t).uniform(0.1, 1.0, (rows, classes)).astype(np.float32)
    return fastbp.tensor(values / values.sum(1, keepdims=True))


def ignoring(y, every=3):
    y = y.clone()
    y[::every] = -100
    return y


WEIGHT = fastbp.tensor([0.5, 2.0, 1.25])
ROW_WEIGHT = fastbp.tensor(np.linspace(0.5, 2, 8).astype(np.float32))
LOSSES = {
    "mse": (F.mse_loss, "real"),
    "mse sum": (lambda x, y: F.mse_loss(x, y, reduction="sum"), "real"),
    "mse none": (lambda x, y: F.mse_loss(x, y, reduction="none").mean(), "real"),
    "mse weighted": (lambda x, y: F.mse_loss(x, y, sample_weight=ROW_WEIGHT), "real"),
    "l1": (F.l1_loss, "real"),
    "l1 weighted": (lambda x, y: F.l1_loss(x, y, reduction="sum", sample_weight=ROW_WEIGHT), "real"),
    "bce": (lambda x, y: F.binary_cross_entropy(F.sigmoid(x), y), "share"),
    "bce logits": (F.binary_cross_entropy_with_logits, "share"),
    "bce pos_weight": (lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=WEIGHT), "share"),
    "bce none": (lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none").sum(), "share"),
    "cross entropy": (F.cross_entropy, "classes"),
    "cross entropy sum": (lambda x, y: F.cross_entropy(x, y, reduction="sum"), "classes"),
    "cross entropy none": (lambda x, y: F.cross_entropy(x, y, reduction="none").mean(), "classes"),
    "cross entropy weight": (lambda x, y: F.cross_entropy(x, y, weight=WEIGHT), "classes"),
    "cross entropy ignoring": (lambda x, y: F.cross_entropy(x, y, weight=WEIGHT), "ignoring"),
    "cross entropy ignore_index": (lambda x, y: F.cross_entropy(x, y, ignore_index=1), "classes"),
    "cross entropy smoothing": (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), "classes"),
    "cross entropy all": (
        lambda x, y: F.cross_entropy(x, y, weight=WEIGHT, label_smoothing=0.2, sample_weight=ROW_WEIGHT),
        "ignoring",
    ),
    "cross entropy probabilities": (lambda x, y: F.cross_entropy(x, y, weight=WEIGHT), "share"),
    "cross entropy probabilities weighted": (
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1, sample_weight=ROW_WEIGHT),
        "share",
    ),
}


def batch_for(target, t):
    x, classes = labelled(t)
    return x, {
        "real": lambda: batch(t)[1],
        "share": lambda: probabilities(t),
        "classes": lambda: classes,
        "ignoring": lambda: ignoring(classes),
    }[target]()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    loss, target = LOSSES[name]
    assert_same_run(with_sgd(loss=loss), [batch_for(target, t) for t in range(3)], variants=1)


# Operations that need values or new data on the host before they can run.
ON_THE_HOST = {"mask", "pick_repeated_rows", "pick_pairs", "nll_loss"}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operation_with_its_gradient(name):
    case = BY_NAME[name]

    def setup():
        def run(*inputs):
            y = case.function(fastbp, *inputs)
            y = y if isinstance(y, fastbp.Tensor) else y[0]
            (y * y).sum().backward()
            return y

        return (run,)

    calls = [lambda dtype=dtype: case.tensors(fastbp, dtype) for dtype in (np.float64, np.float64, np.float32)]
    if name in ON_THE_HOST:
        with pytest.raises(fastbp.CompileError):
            assert_same_run(setup, calls)
    else:
        assert_same_run(setup, calls)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_any_number_of_threads(threads, rows):
    """Layers large enough to be run by all threads, and small ones."""
    with native_settings_kept():
        fastbp.set_num_threads(threads)

        def model():
            return nn.Sequential(nn.Linear(40, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 64), nn.GELU())

        calls = [batch(t, rows, 40, 64) for t in range(3)]
        assert_same_run(with_sgd(model), [*calls, batch(3, 5, 40, 64), calls[0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("width", [257, 300])
def test_gradients_of_two_batches_where_shares_have_unequal_rows(width, threads, dtype):
    """The sum of the gradients and the step after it work on the rows that each share has."""

    def setup():
        layer = nn.Linear(width, width, bias=False).to(dtype=dtype)
        optimizer = optim.SGD(layer.parameters(), lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            for part in (slice(0, 20), slice(20, 40)):
                (F.mse_loss(layer(F.tanh(layer(x[part]))), y[part]) + layer.weight.square().sum() * 0.01).backward()
            optimizer.step()

        return step, layer, optimizer

    with native_settings_kept():
        fastbp.set_num_threads(threads)
        assert_same_run(setup, [batch(t, 40, width, width, dtype) for t in range(2)], variants=1)


def test_a_changed_number_of_threads_selects_another_recording():
    with native_settings_kept():
        assert_same_run(with_sgd(), BATCHES * 2, lambda t, *state: fastbp.set_num_threads(1 + t % 2), variants=2)


@pytest.mark.parametrize("context", [lambda: fastbp.backend("reference"), fastbp.check])
@pytest.mark.parametrize("rule", ["nesterov", "amsgrad", "rmsprop centered", "adagrad"])
def test_other_backends(context, rule):
    kind, options = RULES[rule]

    def setup():
        model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3))
        optimizer = kind(model.parameters(), **options)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            return loss, norm

        return step, model, optimizer

    with context():
        assert_same_run(setup, [labelled(t) for t in range(3)])


def test_one_recording_serves_all_backends():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        step = training_step(model, optimizer)
        return step, model, optimizer

    fastbp.manual_seed(0)
    step, *state = setup()
    compiled = fastbp.compile(step)
    compiled(*BATCHES[0])
    with fastbp.backend("reference"):
        compiled(*BATCHES[1])
    with fastbp.check():
        compiled(*BATCHES[2])
    assert count_variants(compiled) == 1
    got = all_state(state, grads=False)
    fastbp.manual_seed(0)
    step, *state = setup()
    step(*BATCHES[0])
    with fastbp.backend("reference"):
        step(*BATCHES[1])
    step(*BATCHES[2])
    assert_same(all_state(state, grads=False), got)


# --- what steps are made of -------------------------------------------------------------------------------------------


def test_dropout_draws_the_same_numbers_and_stops_in_eval_mode():
    def model():
        return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 3), nn.Dropout(0.1))

    def toggle(t, model, optimizer):
        model.train(t % 3 != 1)

    assert_same_run(with_sgd(model), [*BATCHES, *BATCHES], toggle, variants=2)


def test_random_tensors_and_their_generator():
    own = fastbp.Generator(5)

    def setup():
        own.manual_seed(5)

        def draw(x):
            noise = fastbp.randn(8, 5) + fastbp.rand(5, generator=own) + fastbp.randn_like(x)
            chosen = fastbp.bernoulli(fastbp.sigmoid(x)), fastbp.randint(3, 9, (4,)), fastbp.randperm(6)
            return x + noise, x[fastbp.randperm(8)], *chosen

        return (draw,)

    def reseed(t):
        if t == 2:
            fastbp.manual_seed(99)

    assert_same_run(setup, [(x,) for x, _ in BATCHES], reseed, variants=1)
    assert own.get_state() == (5, 4)


@pytest.mark.parametrize(
    "clip",
    [
        lambda p: nn.utils.clip_grad_norm_(p, 0.05),
        lambda p: nn.utils.clip_grad_norm_(p, 1e9),
        lambda p: nn.utils.clip_grad_norm_(p, 0.05, norm_type=1),
        lambda p: nn.utils.clip_grad_norm_(p, 0.05, norm_type=float("inf")),
        lambda p: nn.utils.clip_grad_value_(p, 0.01),
    ],
)
def test_clipping(clip):
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            norm = clip(model.parameters())
            optimizer.step()
            return loss, norm

        return step, model, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_accumulation_over_micro_batches_in_one_call():
    def setup():
        model = perceptron()
        optimizer = optim.AdamW(model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            for part in range(4):
                (F.mse_loss(model(x[2 * part : 2 * part + 2]), y[2 * part : 2 * part + 2]) / 4).backward()
            optimizer.step()

        return step, model, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_accumulation_over_calls():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def backward(x, y):
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss

        return backward, model, optimizer

    def step(t, model, optimizer):
        if t % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()

    assert_same_run(setup, [*BATCHES, *BATCHES], step, variants=2)


def test_gradients_present_at_entry_reach_the_step():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            F.mse_loss(model(x), y).backward()
            optimizer.step()

        return step, model, optimizer

    def give(t, model, optimizer):
        if t == 2:
            optimizer.zero_grad()
        for p in model.parameters() if t == 3 else ():
            p.grad = fastbp.ones(p.shape)

    got, _ = trace(setup, BATCHES, fastbp.compile, give)
    expected, _ = trace(setup, BATCHES, lambda f: f, give)
    for a, b in zip(expected, got):
        assert_same(a, b)


def test_gradients_of_one_element():
    def setup():
        model = nn.Linear(1, 1)

        def backward(x):
            model(x).sum().backward()

        return backward, model

    assert_same_run(setup, [(fastbp.ones(3, 1),)] * 4)


@pytest.mark.parametrize("whose", ["model", "optimizer"])
def test_zero_grad_that_fills(whose):
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())

        def step(x, y):
            (model if whose == "model" else optimizer).zero_grad(set_to_none=False)
            F.mse_loss(model(x), y).backward()
            optimizer.step()

        return step, model, optimizer

    expected, _ = trace(setup, BATCHES, lambda f: f)
    got, _ = trace(setup, BATCHES, fastbp.compile)
    for a, b in zip(expected, got):
        assert_same(a, b)


def test_without_zero_grad_gradients_grow_in_the_same_tensor():
    model = perceptron()
    compiled = fastbp.compile(lambda x, y: F.mse_loss(model(x), y).backward())
    compiled(*BATCHES[0])
    held = [p.grad for p in model.parameters()]
    compiled(*BATCHES[1])
    for p, gradient in zip(model.parameters(), held):
        assert p.grad is gradient


def test_keep_grads_or_none():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step = training_step(model, optimizer)
    fastbp.compile(step)(*BATCHES[0])
    assert all(p.grad is None for p in model.parameters())
    fastbp.compile(keep_grads=True)(step)(*BATCHES[0])
    assert all(p.grad is not None for p in model.parameters())


def test_kept_gradients_are_new_tensors_in_every_call():
    model = perceptron()
    compiled = fastbp.compile(training_step(model, optim.SGD(model.parameters(), lr=0.1)), keep_grads=True)
    compiled(*BATCHES[0])
    first = [p.grad for p in model.parameters()]
    values = [g.numpy().copy() for g in first]
    compiled(*BATCHES[1])
    for gradient, value in zip(first, values):
        np.testing.assert_array_equal(gradient.numpy(), value)


def test_gradients_of_parameters_without_an_optimizer_are_kept():
    model, other = nn.Linear(5, 3), nn.Linear(3, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    compiled = fastbp.compile(training_step(nn.Sequential(model, other), optimizer))
    compiled(*BATCHES[0])
    assert model.weight.grad is None and other.weight.grad is not None


SCHEDULES = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "linear": lambda o: lr_scheduler.LinearLR(o, total_iters=3),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
}


@pytest.mark.parametrize("where", ["before", "after", "outside"])
@pytest.mark.parametrize("rule", ["dampening", "adamw"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule, rule, where):
    kind, options = RULES[rule]

    def setup():
        model = perceptron()
        optimizer = kind(model.parameters(), **options)
        scheduler = SCHEDULES[schedule](optimizer)

        def step(x, y):
            if where == "before":
                scheduler.step()
            loss = training_step(model, optimizer)(x, y)
            if where == "after":
                scheduler.step()
            return loss

        return step, model, optimizer, scheduler

    def outside(t, model, optimizer, scheduler):
        if where == "outside":
            scheduler.step()

    assert_same_run(setup, [*BATCHES, *BATCHES], outside, variants=1)


def test_plateau_is_stepped_outside():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return training_step(model, optimizer), model, optimizer, lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)

    assert_same_run(setup, [*BATCHES, *BATCHES], lambda t, m, o, plateau: plateau.step(1.0), variants=1)


def test_two_steps_of_one_optimizer_in_one_call():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = training_step(model, optimizer)
        return (lambda x, y: (step(x, y), step(x, y))), model, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_a_step_with_a_closure():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())

        def step(x, y):
            def closure():
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                loss.backward()
                return loss

            return optimizer.step(closure)

        return step, model, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_two_optimizers_and_groups_with_their_own_options():
    def setup():
        first, second = nn.Linear(5, 7), nn.Linear(7, 3)
        groups = [{"params": [second.weight], "lr": 0.3}, {"params": [second.bias], "momentum": 0.5}]
        a, b = optim.Adam(first.parameters(), lr=0.02), optim.SGD(groups, lr=0.1)

        def step(x, y):
            a.zero_grad()
            b.zero_grad()
            loss = F.mse_loss(second(F.relu(first(x))), y)
            loss.backward()
            b.step()
            a.step()
            return loss

        return step, first, second, a, b

    assert_same_run(setup, BATCHES, variants=1)


def test_a_generator_and_its_critic():
    """Two steps in turn, the second through parameters that the first has just changed."""

    def setup():
        maker, critic = nn.Linear(5, 4), nn.Linear(4, 1)
        a, b = optim.Adam(maker.parameters()), optim.RMSprop(critic.parameters())

        def step(x, real):
            b.zero_grad()
            (F.binary_cross_entropy_with_logits(critic(real), fastbp.ones(8, 1))).backward()
            fake = maker(x)
            (F.binary_cross_entropy_with_logits(critic(fake.detach()), fastbp.zeros(8, 1))).backward()
            b.step()
            a.zero_grad()
            loss = F.binary_cross_entropy_with_logits(critic(fake), fastbp.ones(8, 1))
            loss.backward()
            a.step()
            return loss, fake

        return step, maker, critic, a, b

    calls = [batch(t, outputs=4) for t in range(4)]
    expected, _ = trace(setup, calls, lambda f: f, grads=False)
    got, _ = trace(setup, calls, fastbp.compile, grads=False)
    for a, b in zip(expected, got):
        assert_same(a, b)


def test_shared_weights():
    def setup():
        layer, last = nn.Linear(5, 5), nn.Linear(5, 3)
        optimizer = optim.Adam([*layer.parameters(), *last.parameters()])

        def step(x, y):
            optimizer.zero_grad()
            h = F.tanh(layer(F.tanh(layer(x))))
            loss = F.mse_loss(last(h), y) + (layer.weight * layer.weight).sum() * 0.01
            loss.backward()
            optimizer.step()
            return loss

        return step, layer, last, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_layers_without_bias_and_tied_to_their_transpose():
    def setup():
        layer = nn.Linear(5, 3, bias=False)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(x):
            optimizer.zero_grad()
            loss = F.mse_loss(F.sigmoid(layer(x)) @ layer.weight, x)
            loss.backward()
            optimizer.step()
            return loss

        return step, layer, optimizer

    assert_same_run(setup, [(x,) for x, _ in BATCHES], variants=1)


def test_a_parameter_whose_gradient_comes_in_only_one_of_two_steps():
    """The optimizer counts its steps apart from then on."""

    def setup():
        first, second = nn.Linear(5, 3), nn.Linear(5, 3)
        optimizer = optim.Adam([*first.parameters(), *second.parameters()])

        def step(x, y, both):
            optimizer.zero_grad()
            loss = F.mse_loss(first(x) + second(x) if both else first(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step, first, second, optimizer

    assert_same_run(setup, [(*batch(t), t % 2 == 0) for t in range(6)])


def test_a_step_of_some_after_a_step_of_all_in_one_call():
    def setup():
        first, second = nn.Linear(5, 3), nn.Linear(5, 3)
        optimizer = optim.Adam([*first.parameters(), *second.parameters()], lr=0.01)

        def step(x, y):
            optimizer.zero_grad()
            F.mse_loss(first(x) + second(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            F.mse_loss(first(x), y).backward()
            optimizer.step()

        return step, first, second, optimizer

    assert_same_run(setup, BATCHES)


def test_a_second_derivative():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x):
            optimizer.zero_grad()
            x = x.detach().requires_grad_()
            y = model(x).sum()
            y.backward(create_graph=True)
            penalty = (x.grad * x.grad).sum()
            optimizer.zero_grad()
            penalty.backward()
            optimizer.step()
            return penalty

        return step, model, optimizer

    assert_same_run(setup, [(x,) for x, _ in BATCHES])


def test_an_operation_of_the_user():
    class Double(fastbp.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * x * 2

    def setup():
        model = perceptron()
        return training_step(lambda x: Double.apply(model(x)), optim.SGD(model.parameters(), lr=0.1)), model

    assert_same_run(setup, BATCHES)


# --- arguments and results --------------------------------------------------------------------------------------------


def test_a_ragged_last_batch():
    calls = [*BATCHES, batch(9, rows=3), BATCHES[0], batch(8, rows=1), batch(9, rows=3)]
    assert_same_run(with_sgd(), calls, variants=3)


def test_a_batch_without_rows():
    assert_same_run(with_sgd(), [BATCHES[0], batch(0, rows=0), BATCHES[0]])


Pair = namedtuple("Pair", "left right")


def test_nested_arguments_and_results():
    def setup():
        model = perceptron()

        def run(pair, options, *, scale, names=()):
            y = model(pair.left) * scale + options["shift"][0]
            return {"y": y, "more": [(y.sum(), None), 3, "text", Pair(y[0], names)], "x": pair.right}, ()

        return run, model

    calls = [
        (Pair(*batch(t, outputs=5)), {"shift": (batch(t)[1], None)}, Keywords(scale=scale, names=("a", t)))
        for t, scale in ((0, 1.5), (0, 1.5), (1, -0.0), (0, 0.0), (0, float("nan")), (0, float("nan")))
    ]
    assert_same_run(setup, calls, variants=4)
    zeros = [np.float64(0.0), np.float64(-0.0), np.float32(-0.0), np.float64("nan"), np.float64("nan")]
    assert_same_run(lambda: (lambda x, by: x * by,), [(fastbp.ones(1), by) for by in zeros], variants=4)


def test_results_keep_their_types():
    compiled = fastbp.compile(lambda x: Pair([x + 1, None], {"two": (2.5, x)}))
    for _ in range(2):
        result = compiled(fastbp.ones(2))
        assert type(result) is Pair and type(result.left) is list and type(result.right["two"]) is tuple
        assert result.left[0].tolist() == [2, 2] and result.right["two"][1].tolist() == [1, 1]


def test_results_have_no_history_and_stay_as_they_were():
    model = perceptron()
    compiled = fastbp.compile(lambda x: (model(x), model[0].weight[0]))
    x = BATCHES[0][0]
    first = compiled(x)
    kept = first[0].numpy().copy()
    second = compiled(BATCHES[1][0])
    assert not any(t.requires_grad for t in (*first, *second))
    np.testing.assert_array_equal(first[0].numpy(), kept)


def test_a_result_without_tensors():
    compiled = fastbp.compile(lambda x: np.arange(3) if x.shape[0] == 8 else None)
    np.testing.assert_array_equal(compiled(BATCHES[0][0]), np.arange(3))
    np.testing.assert_array_equal(compiled(BATCHES[0][0]), np.arange(3))
    assert compiled(batch(rows=2)[0]) is None


def test_arrays_become_tensors():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return training_step(model, optimizer, F.cross_entropy), model, optimizer

    calls = [labelled(t) for t in range(3)]
    expected, _ = trace(setup, calls, lambda f: f, grads=False)
    got, compiled = trace(setup, [(x.numpy(), {"y": y.numpy()}["y"]) for x, y in calls], fastbp.compile, grads=False)
    for a, b in zip(expected, got):
        assert_same(a[: len(b)], b)
    assert count_variants(compiled) == 1
    read_only = calls[0][0].numpy().copy()
    read_only.flags.writeable = False
    compiled(read_only, calls[0][1].numpy())
    assert count_variants(compiled) == 1


def test_arrays_become_tensors_also_where_no_program_is_run():
    x = fastbp.ones(3, requires_grad=True)
    x.grad = fastbp.ones(3)
    compiled = fastbp.compile(lambda x, a: (x * a.exp()).sum().backward())
    compiled(x, np.zeros(3, np.float32))
    assert x.grad.tolist() == [2, 2, 2]


def test_strided_arguments():
    def strided(t):
        x, y = batch(t, rows=10, inputs=16)
        return x.reshape(16, 10).t()[:, ::2][:, :5], y.t().contiguous().t()

    assert_same_run(with_sgd(), [strided(0), batch(1, rows=10), strided(2)], variants=1)
    arrays = [np.asfortranarray(t.numpy()) for t in batch(3, rows=10)]
    compiled = fastbp.compile(lambda x, y: x[:, :3] + y)
    np.testing.assert_array_equal(compiled(*arrays).numpy(), arrays[0][:, :3] + arrays[1])


def test_integer_and_bool_arguments():
    def setup():
        def run(x, rows, mask, counts):
            return x[rows], fastbp.where(mask, x, 0.0), counts.sum(), (counts + 1).to(fastbp.float32), x.argmax(1)

        return (run,)

    def arguments(t):
        rng = np.random.default_rng(t)
        ints = fastbp.tensor(rng.integers(-8, 8, 4)), fastbp.tensor(rng.integers(0, 2, (8, 5)) == 1)
        return batch(t)[0], *ints, fastbp.tensor(rng.integers(0, 9, (2, 3)))

    assert_same_run(setup, [arguments(t) for t in range(3)], variants=1)


def test_inputs_that_require_grad():
    def setup():
        model = perceptron()

        def run(x, y):
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss

        return run, model

    def arguments(t):
        x, y = batch(t)
        return x.requires_grad_(t != 2), y.requires_grad_(t == 3)

    assert_same_run(setup, [lambda t=t: arguments(t) for t in range(5)])


def test_gradients_of_inputs_grow_over_calls():
    def backward(x):
        (x * x).sum().backward()

    x, y = fastbp.ones(3, requires_grad=True), fastbp.ones(3, requires_grad=True)
    compiled = fastbp.compile(backward)
    for _ in range(3):
        compiled(x)
        backward(y)
    np.testing.assert_array_equal(x.grad.numpy(), y.grad.numpy())


def test_an_argument_given_twice_gets_one_gradient():
    x = fastbp.ones(3, requires_grad=True)
    fastbp.compile(lambda a, b: (a * 2 + b * 3).sum().backward())(x, x)
    assert x.grad.tolist() == [5, 5, 5]


def test_a_parameter_as_an_argument_gets_one_gradient():
    def setup():
        model = nn.Linear(5, 3)

        def backward(weight, x):
            ((weight * 3).sum() + model(x).sum()).backward()

        return (lambda x: compiled(model.weight, x) if compiled else backward(model.weight, x)), model, backward

    results = []
    for wrap in (None, fastbp.compile):
        fastbp.manual_seed(0)
        compiled = None
        run, model, backward = setup()
        compiled = wrap and wrap(backward)
        for x, _ in BATCHES:
            run(x)
        results.append(list(state_of(model, True)))
    assert_same(*results)


def test_an_argument_with_history_passes_its_gradient_on():
    def run(wrap):
        fastbp.manual_seed(0)
        first, second = nn.Linear(5, 3), nn.Linear(3, 3)
        backward = wrap(lambda h, y: F.mse_loss(second(h), y).backward())
        for x, y in BATCHES:
            backward(first(x), y)
        return list(state_of((first, second), True))

    assert_same(run(lambda f: f), run(fastbp.compile))


def test_results_that_are_inputs_or_parameters_or_views():
    def setup():
        model = nn.Linear(5, 5)

        def run(x):
            y = model(x)
            return x, x[1:, ::2], model.weight, model.bias.detach(), y, y.t(), y[0], y[:, 2], y.reshape(-1), x.t()

        return run, model

    def change(t, model):
        with fastbp.no_grad():
            model.weight.add_(t)

    assert_same_run(setup, [(x,) for x, _ in BATCHES], change, variants=1)
    model = nn.Linear(5, 5)
    compiled = fastbp.compile(lambda x: (x, model.weight, y := model(x), y.t()))
    x = BATCHES[0][0]
    for _ in range(2):
        got, weight, y, turned = compiled(x)
        assert weight is model.weight
        assert got.data_ptr() == x.data_ptr()
        assert turned.data_ptr() == y.data_ptr()


def test_a_parameter_of_one_element_is_returned_itself():
    p = nn.Parameter(fastbp.zeros(()))
    compiled = fastbp.compile(lambda: p)
    assert compiled() is p and compiled() is p


def test_a_result_that_is_a_constant_or_expanded():
    compiled = fastbp.compile(lambda x: (fastbp.ones(2, 3), fastbp.arange(4), x.sum().expand(3, 2), fastbp.zeros(())))
    for t in range(3):
        ones, numbers, total, zero = compiled(fastbp.full((4,), float(t)))
        assert ones.tolist() == [[1] * 3] * 2 and numbers.tolist() == [0, 1, 2, 3]
        assert total.tolist() == [[4.0 * t] * 2] * 3 and zero.item() == 0
        ones.fill_(7)  # a caller's tensor: the next call gives another
        numbers.fill_(7)


def test_a_buffer_changed_in_place():
    def setup():
        running, count = fastbp.zeros(5), fastbp.zeros((), dtype=fastbp.int64)
        table = fastbp.zeros(4, 5)

        def run(x):
            with fastbp.no_grad():
                running.mul_(0.9).add_(x.mean(0) * 0.1)
                count.add_(1)
                table[1] = running
                table[2:, 1:3] = 5.0
            return (x - running) * count, running[1:]

        return run, running, count, table

    assert_same_run(setup, [(x,) for x, _ in BATCHES], variants=1)


def test_an_argument_changed_in_place():
    def setup():
        def run(x, by):
            x.add_(by)
            return x * 2

        return (run,)

    def arguments(make):
        return lambda: (make(fastbp.arange(12, dtype=fastbp.float32).reshape(3, 4)), 2)

    makes = [lambda x: x, lambda x: x, lambda x: x.t(), lambda x: x[1:], lambda x: x[:, ::2]]
    assert_same_run(setup, [arguments(make) for make in makes])
    array = np.zeros((3, 4), np.float32)
    fastbp.compile(setup()[0])(array, 2)
    assert (array == 2).all()


def test_an_argument_changed_in_place_is_noticed():
    """By what was derived from its old values: panels of a matrix, and graphs that saved it."""
    w, x = fastbp.randn(64, 64), fastbp.randn(16, 64)
    before = [F.linear(x, w) for _ in range(3)][-1].numpy() * 2
    double = fastbp.compile(lambda w: w.mul_(2))
    double(w)
    np.testing.assert_array_equal(F.linear(x, w).numpy(), before)
    y = (fastbp.ones(64, 64, requires_grad=True) * w).sum()
    double(w)
    with pytest.raises(RuntimeError, match="was changed in place since"):
        y.backward()


@pytest.mark.parametrize("shared", [False, True])
def test_arguments_that_share_memory(shared):
    def setup():
        def run(a, b):
            a.copy_(a.mean(0))
            return b * 2

        return (run,)

    def arguments(t):
        x = fastbp.arange(6, dtype=fastbp.float32).reshape(2, 3) + t
        return (x, x) if shared else (x, fastbp.from_numpy(x.numpy()))

    assert_same_run(setup, [lambda t=t: arguments(t) for t in range(3)])


def test_an_argument_that_shares_memory_with_what_the_function_changes():
    array = np.zeros((3, 3), np.float32)
    table = fastbp.from_numpy(array)

    def run(x):
        table.copy_(fastbp.arange(9).to(fastbp.float32).reshape(3, 3).mean(0))
        return x * 2

    compiled = fastbp.compile(run)
    for argument in (table, array, table[1:]):
        array[:] = 0
        np.testing.assert_array_equal(compiled(argument).numpy()[0], [6, 8, 10])


def test_an_argument_that_is_the_target_too():
    def setup():
        model = perceptron(5, 4, 5)
        optimizer = optim.Adam(model.parameters())
        return training_step(model, optimizer), model, optimizer

    assert_same_run(setup, [(x, x) for x, _ in BATCHES], variants=1)


def test_unsupported_arguments():
    compiled = fastbp.compile(lambda x: x)
    with pytest.raises(TypeError, match="expected dtype float32, float64, int64, bool, got float16"):
        compiled(np.zeros(2, np.float16))
    with pytest.raises(TypeError, match="got <U1"):
        compiled(np.array(["a"]))
    for wrong in (3, "text"):
        with pytest.raises(TypeError, match=r"\[compile\] expected a function, got"):
            fastbp.compile(wrong)
    with pytest.raises(TypeError):
        compiled()


def test_objects_among_the_arguments():
    """What cannot be hashed is known by what it is, all else by its value."""

    def setup():
        def run(x, options, how):
            return x * options["factor"] if how == "times" else x + len(options)

        return (run,)

    class Options(dict):
        pass

    options = Options(factor=3)
    calls = [(fastbp.ones(2), options, how) for how in ("times", "plus", "times")]
    assert_same_run(setup, calls, variants=2)


def test_the_wrapper_has_the_names_of_the_function():
    @fastbp.compile
    def double(x):
        """Twice as much."""
        return x * 2

    assert double.__name__ == "double" and double.__doc__ == "Twice as much."
    assert double(fastbp.ones(1)).item() == 2


def test_methods():
    class Scaled(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = nn.Parameter(fastbp.full((1,), by))

        @fastbp.compile
        def forward(self, x):
            return x * self.by

    two, three = Scaled(2.0), Scaled(3.0)
    for _ in range(2):
        assert two(fastbp.ones(1)).item() == 2 and three(fastbp.ones(1)).item() == 3
    model = perceptron()
    x = BATCHES[0][0]
    with fastbp.no_grad():
        np.testing.assert_array_equal(fastbp.compile(model)(x).numpy(), model(x).numpy())
        np.testing.assert_array_equal(fastbp.compile(model.forward)(x).numpy(), model(x).numpy())


def test_compiled_functions_inside_compiled_functions():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        forward = fastbp.compile(lambda x: model(x))
        inner = fastbp.compile(training_step(forward, optimizer), keep_grads=True)
        return (lambda x, y: inner(x, y)), model, optimizer

    assert_same_run(setup, BATCHES, variants=1)


def test_no_grad_around_and_inside():
    model = perceptron()

    def forward(x):
        return model(x), fastbp.is_grad_enabled()

    compiled = fastbp.compile(forward)
    x = BATCHES[0][0]
    for _ in range(2):
        assert compiled(x)[1]
        with fastbp.no_grad():
            y, recording = compiled(x)
            assert not recording
    np.testing.assert_array_equal(y.numpy(), model(x).detach().numpy())
    assert count_variants(compiled) == 2
    inside = fastbp.compile(fastbp.no_grad(forward))
    assert inside(x)[1] is False and fastbp.is_grad_enabled()


# --- what changes between calls ---------------------------------------------------------------------------------------

CHANGES = {
    "lr": ({"lr": 0.05}, 1),
    "weight_decay": ({"weight_decay": 0.2}, 1),
    "momentum": ({"momentum": 0.5}, 1),
    "dampening": ({"dampening": 0.5}, 1),
    "no momentum": ({"momentum": 0.0}, 2),
    "nesterov": ({"nesterov": True}, 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_options_of_sgd(change):
    options, variants = CHANGES[change]

    def between(t, model, optimizer):
        if t in (2, 5):
            given = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.9, "dampening": 0.0, "nesterov": False}
            optimizer.param_groups[0].update(options if t == 2 else given)

    assert_same_run(with_sgd(), BATCHES * 2, between, variants=variants)


@pytest.mark.parametrize("options", [{"betas": (0.5, 0.7)}, {"eps": 0.1}, {"amsgrad": True}, {"weight_decay": 0.3}])
@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_changed_options_of_adam(kind, options):
    def setup():
        model = perceptron()
        optimizer = kind(model.parameters(), lr=0.01)
        return training_step(model, optimizer), model, optimizer

    def between(t, model, optimizer):
        if t == 2:
            optimizer.param_groups[0].update(options)

    assert_same_run(setup, BATCHES * 2, between, variants=2 if "amsgrad" in options else 1)


def test_momentum_that_is_switched_on_later():
    def between(t, model, optimizer):
        if t == 2:
            optimizer.param_groups[0]["momentum"] = 0.9

    assert_same_run(with_sgd(momentum=0.0), BATCHES * 2, between, variants=2)


@pytest.mark.parametrize("rule", ["dampening", "amsgrad", "rmsprop centered", "adagrad"])
def test_loaded_state(rule):
    kind, options = RULES[rule]

    def setup():
        model = perceptron()
        optimizer = kind(model.parameters(), **options)
        return training_step(model, optimizer), model, optimizer

    def state_after(steps):
        fastbp.manual_seed(3)
        step, model, optimizer = setup()
        for x, y in BATCHES[:steps]:
            step(x, y)
        return {n: v.numpy().copy() for n, v in model.state_dict().items()}, optimizer.state_dict()

    def between(t, model, optimizer):
        if t in (2, 3):
            weights, state = state_after(t)
            model.load_state_dict(weights)
            optimizer.load_state_dict(state)

    assert_same_run(setup, BATCHES * 2, between, variants=1)


def test_loaded_state_of_parameters_that_took_different_steps():
    def between(t, model, optimizer):
        if t in (2, 5):
            state = optimizer.state_dict()
            for number in range(t - 1, 4):
                state["state"][number]["step"] = 1.0 + t
            optimizer.load_state_dict(state)

    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        return training_step(model, optimizer), model, optimizer

    assert_same_run(setup, BATCHES * 2, between)


def test_values_copied_into_parameters():
    def between(t, model, optimizer):
        with fastbp.no_grad():
            model[0].weight.copy_(fastbp.full((7, 5), 0.1 * t))
            model[2].bias[1] = t

    assert_same_run(with_sgd(), BATCHES, between, variants=1)


def test_a_parameter_with_other_memory():
    def between(t, model, optimizer):
        if t == 2:
            model[0].weight.data = fastbp.full((7, 5), 0.25)

    assert_same_run(with_sgd(), BATCHES * 2, between, variants=2)


def test_a_replaced_parameter():
    """The optimizer goes on with the old one, whose gradient is gone."""

    def between(t, model, optimizer):
        if t == 2:
            model[0].weight = nn.Parameter(fastbp.full((7, 5), 0.25))
        if t == 4:
            optimizer.add_param_group({"params": [model[0].weight], "lr": 0.02})

    assert_same_run(with_sgd(), BATCHES * 2, between)


def test_replaced_and_added_layers():
    def between(t, model, optimizer):
        if t == 2:
            model[1] = nn.ReLU()
        if t == 4:
            model.append(nn.Sigmoid())
        if t == 5:
            del model[3]
        if t == 6:
            model.add_module("end", nn.Tanh())

    assert_same_run(with_sgd(), BATCHES * 2, between, variants=4)  # without the fourth it is what it was before


def test_changed_options_of_layers():
    def model():
        return nn.Sequential(nn.Linear(5, 7), nn.LeakyReLU(0.1), nn.Dropout(0.2), nn.Linear(7, 3))

    def between(t, model, optimizer):
        if t == 2:
            model[1].negative_slope = 0.3
        if t == 3:
            model[2].p = 0.0

    assert_same_run(with_sgd(model), BATCHES * 2, between, variants=3)


def test_frozen_parameters():
    def between(t, model, optimizer):
        if t == 2:
            model[0].requires_grad_(False)
        if t == 4:
            model[0].requires_grad_(True)

    assert_same_run(with_sgd(), BATCHES * 2, between)


def test_a_new_group():
    def setup():
        model, extra = perceptron(), nn.Linear(5, 3)
        optimizer = optim.Adam(model.parameters())
        return training_step(lambda x: model(x) + extra(x), optimizer), model, extra, optimizer

    def between(t, model, extra, optimizer):
        if t == 2:
            optimizer.add_param_group({"params": extra.parameters(), "lr": 0.1})

    got, compiled = trace(setup, BATCHES * 2, fastbp.compile, between, grads=False)
    expected, _ = trace(setup, BATCHES * 2, lambda f: f, between, grads=False)
    for a, b in zip(expected, got):
        assert_same(a, b)
    assert count_variants(compiled) >= 2


def test_a_new_group_of_an_optimizer_that_steps_outside():
    def setup():
        model, extra = perceptron(), nn.Linear(5, 3)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def backward(x, y):
            optimizer.zero_grad()
            F.mse_loss(model(x) + extra(x), y).backward()

        return backward, model, extra, optimizer

    def between(t, model, extra, optimizer):
        optimizer.step()
        if t == 2:
            optimizer.add_param_group({"params": extra.parameters(), "lr": 0.1})

    assert_same_run(setup, BATCHES * 2, between)


def test_modes_return_to_their_recordings():
    def model():
        return nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3))

    counts = []

    def between(t, model, optimizer):
        model.train(t % 2 == 0)
        counts.append(t)

    assert_same_run(with_sgd(model), BATCHES * 3, between, variants=2)


def test_a_mode_that_the_function_itself_asks_for():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + fastbp.randn_like(x) if self.training else x

    def setup():
        noisy = Noisy()
        return noisy.forward, noisy

    assert_same_run(setup, [(x,) for x, _ in BATCHES] * 2, lambda t, noisy: noisy.train(t % 2 == 0), variants=2)


def test_layers_without_a_mode_need_one_recording():
    assert_same_run(with_sgd(), BATCHES * 2, lambda t, model, optimizer: model.train(t % 2 == 0), variants=1)


def test_one_call_at_a_time():
    """Threads that call one compiled function: as many steps as calls."""
    steps, threads = 30, 4

    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        return training_step(model, optimizer), model, optimizer

    fastbp.manual_seed(0)
    step, *expected = setup()
    for _ in range(steps * threads):
        step(*BATCHES[0])
    fastbp.manual_seed(0)
    step, *got = setup()
    compiled, errors = fastbp.compile(step), []

    def work():
        try:
            for _ in range(steps):
                compiled(*BATCHES[0])
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert_same(all_state(expected, grads=False), all_state(got, grads=False))


def test_other_threads_go_on_while_one_records():
    going, done, wrong = threading.Event(), threading.Event(), []

    def other():
        model = perceptron()
        optimizer = optim.Adam(model.parameters())
        step = training_step(model, optimizer)
        while not done.is_set():
            if not np.isfinite(step(*BATCHES[1]).item()) or model[0].weight.grad is None:
                wrong.append(model)
            going.set()

    worker = threading.Thread(target=other)
    worker.start()
    going.wait()
    try:
        for _ in range(5):
            assert_same_run(
                lambda: (lambda m: (training_step(m, o := optim.SGD(m.parameters(), lr=0.1)), m, o))(perceptron()),
                BATCHES,
                variants=1,
            )
    finally:
        done.set()
        worker.join()
    assert not wrong


# --- limits -----------------------------------------------------------------------------------------------------------

ARRAY = np.ones(3, np.float32)
REFUSED = {
    "item": (lambda x: x.sum().item(), "values on the host"),
    "numpy": (lambda x: (x * 1).numpy(), "values on the host"),
    "numpy of an argument": (lambda x: x.numpy(), "values on the host"),
    "tolist": (lambda x: x.tolist(), "values on the host"),
    "asarray": (lambda x: np.asarray(x), "values on the host"),
    "bool": (lambda x: x if x.sum() > 1 else -x, "values on the host"),
    "float": (lambda x: float(x.sum()), "values on the host"),
    "int": (lambda x: int(x.sum()), "values on the host"),
    "repr": (lambda x: repr(x), "values on the host"),
    "dlpack": (lambda x: np.from_dlpack(x), "values on the host"),
    "tensor": (lambda x: x + fastbp.tensor([1.0, 2.0, 3.0]), "new data of the host"),
    "array": (lambda x: x + ARRAY, "new data of the host"),
    "from_numpy": (lambda x: x + fastbp.from_numpy(ARRAY), "new data of the host"),
    "list as index": (lambda x: x[[0, 1]], "new data of the host"),
    "mask": (lambda x: x[x > 0], "values on the host"),
    "computed index": (lambda x: x[x.to(fastbp.int64)], "the values of indices"),
    "computed labels": (lambda x: F.cross_entropy(x, (x > 1).to(fastbp.int64).sum()), "the values of indices"),
    "seed": (lambda x: fastbp.manual_seed(3), "to seed random numbers"),
    "nll_loss": (lambda x: F.nll_loss(x.reshape(1, 3), x.argmax().reshape(1)), "values on the host"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_host_is_refused_with_its_line(name):
    function, needs = REFUSED[name]
    compiled = fastbp.compile(function)
    line = function.__code__.co_firstlineno
    for _ in range(2):
        with pytest.raises(fastbp.CompileError) as caught:
            compiled(fastbp.ones(3))
        assert str(caught.value).startswith(f"[compile] {__file__}:{line}: expected a function")
        assert needs in str(caught.value) and "; " in str(caught.value)
    assert issubclass(fastbp.CompileError, RuntimeError)


def test_the_line_is_the_innermost_of_the_user():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    model = nn.Sequential(nn.Linear(5, 3), Branching())
    line = Branching.forward.__code__.co_firstlineno + 1
    with pytest.raises(fastbp.CompileError, match=f"{__file__}:{line}: "):
        fastbp.compile(lambda x: model(x))(BATCHES[0][0])


def test_new_memory_is_refused():
    p = nn.Parameter(fastbp.zeros(3))

    def run():
        p.data = fastbp.ones(3)

    with pytest.raises(fastbp.CompileError, match=r"to give a tensor other memory; use copy_\(\)"):
        fastbp.compile(run)()
    assert p.tolist() == [0, 0, 0]


def test_a_schedule_between_two_steps_is_refused():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    step = training_step(model, optimizer)

    def twice(x, y):
        step(x, y)
        schedule.step()
        step(x, y)

    before = all_state((model, optimizer, schedule))
    with pytest.raises(fastbp.CompileError, match="a schedule's step between two steps"):
        fastbp.compile(twice)(*BATCHES[0])
    assert_same(before, all_state((model, optimizer, schedule)))


def test_a_backend_is_chosen_outside():
    def run(x):
        with fastbp.backend("reference"):
            return x * 2

    with pytest.raises(RuntimeError, match="chosen outside of a compiled function"):
        fastbp.compile(run)(fastbp.ones(2))


def everything():
    """A step with all that must stay when it fails: dropout, clipping, momentum, a schedule, gradients of others."""
    fastbp.manual_seed(4)
    model, other = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3)), nn.Linear(3, 3)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50)

    def step(x, y, fail=False):
        optimizer.zero_grad()
        loss = F.cross_entropy(other(model(x)), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        schedule.step()
        optimizer.step()
        if fail:
            raise LookupError("of the user")
        return loss

    return step, [model, other, optimizer, schedule]


@pytest.mark.parametrize("calls_before", [0, 1, 2])
@pytest.mark.parametrize("label", [3, -1, 2**40])
def test_labels_out_of_range_change_nothing(label, calls_before):
    step, state = everything()
    compiled = fastbp.compile(step, keep_grads=True)
    x, y = labelled()
    for _ in range(calls_before):
        compiled(x, y)
    before = all_state(state)
    wrong = y.clone()
    wrong[5] = label
    for _ in range(2):
        with pytest.raises(IndexError, match=f"got {label}"):
            compiled(x, wrong)
        assert_same(before, all_state(state))
    compiled(x, y)
    expected_step, expected = everything()
    for _ in range(calls_before + 1):
        expected_step(x, y)
    assert_same(list(state_of(expected[0], False)), list(state_of(state[0], False)))


def test_indices_out_of_range_change_nothing():
    table = fastbp.zeros(4)
    compiled = fastbp.compile(lambda x, i: (table.add_(1), x[i]))
    x = fastbp.arange(4)
    for i, fits in ((4, False), (3, True), (4, False), (-4, True), (-5, False)):
        if fits:
            compiled(x, fastbp.tensor([i]))
        else:
            with pytest.raises(IndexError):
                compiled(x, fastbp.tensor([i]))
    assert table.tolist() == [2] * 4


@pytest.mark.parametrize("calls_before", [0, 2])
def test_an_exception_of_the_user_changes_nothing(calls_before):
    step, state = everything()
    compiled = fastbp.compile(step, keep_grads=True)
    x, y = labelled()
    for _ in range(calls_before):
        compiled(x, y)
    before = all_state(state)
    for _ in range(2):
        with pytest.raises(LookupError, match="of the user"):
            compiled(x, y, fail=True)
        assert_same(before, all_state(state))
    assert fastbp.is_grad_enabled()
    compiled(x, y)


def test_a_refusal_changes_nothing():
    step, state = everything()
    before = all_state(state)
    with pytest.raises(fastbp.CompileError):
        fastbp.compile(lambda x, y: step(x, y).item())(*labelled())
    assert_same(before, all_state(state))


def test_a_schedule_that_has_ended_changes_nothing():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2)

    def step(x, y):
        schedule.step()
        return training_step(model, optimizer)(x, y)

    compiled = fastbp.compile(step)
    compiled(*BATCHES[0])
    compiled(*BATCHES[0])
    before = all_state((model, optimizer, schedule))
    with pytest.raises(ValueError, match="expected at most 2 steps"):
        compiled(*BATCHES[0])
    assert_same(before, all_state((model, optimizer, schedule)))


def test_a_wrong_shape_is_refused_by_the_operation():
    compiled = fastbp.compile(with_sgd()()[0])
    compiled(*BATCHES[0])
    with pytest.raises(ValueError, match=r"^\[linear"):
        compiled(fastbp.ones(8, 4), BATCHES[0][1])


def test_a_schedule_on_a_metric_is_refused():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    with pytest.raises(fastbp.CompileError, match="a metric on the host; return the metric"):
        fastbp.compile(lambda: plateau.step(1.0))()
    assert plateau.last_epoch == 0


def test_a_refusal_that_the_function_catches_is_one():
    def run(x):
        try:
            return x * x.sum().item()
        except RuntimeError:
            return x

    with pytest.raises(fastbp.CompileError):
        fastbp.compile(run)(fastbp.ones(3))


def test_attributes_of_other_modules_need_no_recording():
    other = nn.Linear(2, 2)
    other.note = 0

    def between(t, model, optimizer):
        other.note = [t]

    assert_same_run(with_sgd(), BATCHES, between, variants=1)


def test_options_changed_inside_are_changed_in_every_call_or_refused():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.param_groups[0]["lr"] *= 0.5
            return training_step(model, optimizer)(x, y)

        return step, model, optimizer

    with contextlib.suppress(fastbp.CompileError):
        assert_same_run(setup, BATCHES)


def test_options_that_an_optimizer_of_the_user_reads():
    class Plain(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self):
            with fastbp.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad * group["lr"])

    def setup():
        model = perceptron()
        optimizer = Plain(model.parameters(), 0.1)
        return training_step(model, optimizer), model, optimizer

    def between(t, model, optimizer):
        if t == 2:
            optimizer.param_groups[0]["lr"] = 0.01

    expected, _ = trace(setup, BATCHES, lambda f: f, between)
    got, _ = trace(setup, BATCHES, fastbp.compile, between)
    for a, b in zip(expected, got):
        assert_same(a, b)


def test_a_tensor_that_left_the_recording_has_no_values():
    left = []
    fastbp.compile(lambda x: left.append(x * 2))(fastbp.ones(3))
    for read in (repr, np.asarray, lambda t: t.tolist(), lambda t: t[0].item(), lambda t: t.numpy()):
        with pytest.raises(RuntimeError, match="expected a tensor with values"):
            read(left[0])


def test_a_tensor_that_left_the_recording_is_refused_by_operations():
    left = []
    fastbp.compile(lambda x: left.append(x * 2))(fastbp.ones(3))
    with pytest.raises(RuntimeError):
        left[0] + 1


def test_a_number_argument_does_not_fill_memory():
    """Every value is a recording of its own; old ones go."""
    compiled = fastbp.compile(lambda x, number: x * number)
    for number in range(300):
        compiled(fastbp.ones(1), number)
    assert count_variants(compiled) <= 128


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_models_and_optimizers_are_watched_as_the_first_ones(copied):
    def setup():
        model, optimizer = copied((lambda m: (m, optim.Adam(m.parameters(), lr=0.1)))(perceptron()))
        return training_step(model, optimizer), model, optimizer

    def between(t, model, optimizer):
        if t == 1:
            optimizer.param_groups[0]["lr"] = 0.02
        if t == 2:
            model.append(nn.Tanh())

    assert_same_run(setup, BATCHES, between)
