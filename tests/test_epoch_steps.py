"""run_epoch leaves what a loop over its batches leaves, to the bit, whatever the steps are made of."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, count_variants, training_step
from epoch_runs import RULES, arrays, assert_equal_epochs, by_hand, network, shuffled, stacked, training
from settings import numbers_of_threads

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F

threads = numbers_of_threads(1, 2, 3)


@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer(rule, threads):
    for order in (None, shuffled()):
        compiled = assert_equal_epochs(training(rule), arrays(), 10, permutation=order)
        assert count_variants(compiled) == 2  # of whole batches, and of the last


@pytest.mark.parametrize("require_finite", [False, True])
def test_classes(require_finite, threads):
    setup = training("adam", loss=F.cross_entropy)
    assert_equal_epochs(setup, arrays(classes=3), 8, permutation=shuffled(), require_finite=require_finite)


def test_float64(threads):
    assert_equal_epochs(training(make=lambda: network().to(dtype=fastbp.float64)), arrays(dtype="float64"), 10)


def test_layers_with_panels(threads):
    def make():
        return nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 3))

    assert_equal_epochs(training("adam", make), arrays(), 10, permutation=shuffled())


def test_chunks_in_every_step(threads):
    data = arrays(2700)
    assert_equal_epochs(training("adam"), data, 600, permutation=shuffled(2700))


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
