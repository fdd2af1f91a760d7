"""What changes between calls of a compiled function: options, state, parameters, layers, modes."""

from __future__ import annotations

import copy
import pickle

import pytest
from compiled_runs import (
    BATCHES,
    RULES,
    all_state,
    assert_same,
    assert_same_run,
    count_variants,
    perceptron,
    trace,
    training_setup,
    training_step,
    with_sgd,
)

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F

# --- options and state of optimizers ----------------------------------------------------------------------------------

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
    def between(t, model, optimizer):
        if t == 2:
            optimizer.param_groups[0].update(options)

    setup = training_setup(perceptron, (kind, {"lr": 0.01}))
    assert_same_run(setup, BATCHES * 2, between, variants=2 if "amsgrad" in options else 1)


def test_momentum_that_is_switched_on_later():
    def between(t, model, optimizer):
        if t == 2:
            optimizer.param_groups[0]["momentum"] = 0.9

    assert_same_run(with_sgd(momentum=0.0), BATCHES * 2, between, variants=2)


def test_options_that_an_optimizer_of_the_user_reads():
    class Plain(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self):
            with fastbp.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(p.grad * group["lr"])

    def between(t, model, optimizer):
        if t == 2:
            optimizer.param_groups[0]["lr"] = 0.01

    setup = training_setup(perceptron, (Plain, {"lr": 0.1}))
    expected, _ = trace(setup, BATCHES, lambda f: f, between)
    got, _ = trace(setup, BATCHES, fastbp.compile, between)
    for a, b in zip(expected, got):
        assert_same(a, b)


def test_options_changed_inside_are_refused():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.param_groups[0]["lr"] *= 0.5
            return training_step(model, optimizer)(x, y)

        return step, model, optimizer

    with pytest.raises(fastbp.CompileError, match="change an optimizer's options"):
        assert_same_run(setup, BATCHES)


@pytest.mark.parametrize("lr", [None, "0.1", -1.0, float("nan")])
@pytest.mark.parametrize("wrap", [lambda step: step, fastbp.compile])
def test_options_that_are_no_options_are_refused_at_the_next_step(wrap, lr):
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step = wrap(training_step(model, optimizer))
    step(*BATCHES[0])
    before = all_state([model, optimizer.state_dict()["state"]], False)
    optimizer.param_groups[0]["lr"] = lr
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^\[SGD\] expected lr >= 0 in group 0, got "):
            step(*BATCHES[1])
    assert_same(before, all_state([model, optimizer.state_dict()["state"]], False))
    optimizer.param_groups[0]["lr"] = 0.2
    step(*BATCHES[1])


@pytest.mark.parametrize("rule", ["dampening", "amsgrad", "rmsprop centered", "adagrad"])
def test_loaded_state(rule):
    setup = training_setup(perceptron, RULES[rule])

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

    assert_same_run(training_setup(perceptron, (optim.Adam, {"lr": 0.01})), BATCHES * 2, between)


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


# --- parameters and layers --------------------------------------------------------------------------------------------


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


def test_frozen_parameters():
    def between(t, model, optimizer):
        if t == 2:
            model[0].requires_grad_(False)
        if t == 4:
            model[0].requires_grad_(True)

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


def test_attributes_of_other_modules_need_no_recording():
    other = nn.Linear(2, 2)
    other.note = 0

    def between(t, model, optimizer):
        other.note = [t]

    assert_same_run(with_sgd(), BATCHES, between, variants=1)


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


# --- modes ------------------------------------------------------------------------------------------------------------


def test_modes_return_to_their_recordings():
    def model():
        return nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3))

    def between(t, model, optimizer):
        model.train(t % 2 == 0)

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
