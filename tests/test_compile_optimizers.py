"""Optimizers in compiled steps: every rule, clipping, and more than one step or optimizer in a call."""

from __future__ import annotations

import pytest
from compiled_runs import (
    BATCHES,
    RULES,
    assert_same,
    assert_same_run,
    batch,
    perceptron,
    trace,
    training_setup,
    training_step,
)

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer(rule, dtype):
    setup = training_setup(lambda: perceptron().to(dtype=getattr(fastbp, dtype)), RULES[rule])
    batches = [batch(t, dtype=dtype) for t in range(4)]
    assert_same_run(setup, [*batches, batch(4, rows=3, dtype=dtype), *batches], variants=2)


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


def test_two_steps_of_one_optimizer_in_one_call():
    def setup():
        model = perceptron()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = training_step(model, optimizer)
        return (lambda x, y: (step(x, y), step(x, y))), model, optimizer

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
