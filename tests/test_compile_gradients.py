"""Gradients of compiled functions: of weights and of arguments, kept, accumulated, and not wanted."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import (
    BATCHES,
    assert_same,
    assert_same_run,
    batch,
    count_variants,
    perceptron,
    state_of,
    trace,
    training_step,
)

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F

# --- of weights -------------------------------------------------------------------------------------------------------


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


def test_gradients_of_one_element():
    def setup():
        model = nn.Linear(1, 1)

        def backward(x):
            model(x).sum().backward()

        return backward, model

    assert_same_run(setup, [(fastbp.ones(3, 1),)] * 4)


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


# --- kept, accumulated and set to zero --------------------------------------------------------------------------------


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


# --- of arguments -----------------------------------------------------------------------------------------------------


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


# --- not wanted -------------------------------------------------------------------------------------------------------


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
