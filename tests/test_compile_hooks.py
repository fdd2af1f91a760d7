"""Hooks in compiled functions."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import CompileError, nn


def training(compiled, hook_for=None):
    """Weights after some steps, compiled or not, of a model whose second weight has a hook."""
    fastbp.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = fastbp.optim.Adam(model.parameters(), lr=0.1)
    kept = fastbp.zeros(2, 8)

    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        step = fastbp.compile(step)
    if hook_for is not None:
        model[2].weight.register_hook(hook_for(kept))
    xs = [fastbp.randn(4, 3) for _ in range(3)]
    losses = [step(x).item() for x in xs]
    return losses, kept.numpy().copy(), [p.detach().numpy().copy() for p in model.parameters()], (model, step, xs)


def equal(a, b):
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1], b[1])
    for p, q in zip(a[2], b[2], strict=True):
        np.testing.assert_array_equal(p, q)


def test_a_program_keeps_the_gradient_that_a_hook_reads():
    def keep(kept):
        return lambda g: (kept.copy_(g), None)[1]

    eager, compiled = training(False, keep), training(True, keep)
    equal(eager, compiled)
    assert np.any(eager[1] != 0)


def test_a_program_trains_with_the_gradient_that_a_hook_gives():
    def clip(kept):
        return lambda g: g.clamp(-1e-3, 1e-3)

    eager, compiled = training(False, clip), training(True, clip)
    equal(eager, compiled)
    assert any(np.any(p != q) for p, q in zip(compiled[2], training(True)[2]))


def test_a_program_is_recorded_anew_when_hooks_come_and_go():
    _, _, weights, (model, step, xs) = training(True)
    _, _, same, (model_eager, step_eager, _) = training(False)
    for p, q in zip(weights, same):
        np.testing.assert_array_equal(p, q)

    def frozen(g):
        return g * 0.0

    for change in (True, False):
        for m in (model, model_eager):
            if change:
                m.hook = m[2].weight.register_hook(frozen)
            else:
                m.hook.remove()
        assert step(xs[0]).item() == step_eager(xs[0]).item()
        np.testing.assert_array_equal(model[2].weight.detach().numpy(), model_eager[2].weight.detach().numpy())


def test_a_program_is_recorded_anew_when_a_module_gets_a_hook():
    model = nn.Linear(2, 2)
    step = fastbp.compile(lambda x: model(x))
    x = fastbp.ones(1, 2)
    plain = step(x).tolist()
    with model.register_forward_hook(lambda m, args, y: y * 2):
        assert step(x).tolist() == [[2 * value for value in plain[0]]]
    assert step(x).tolist() == plain


def test_hooks_of_arguments():
    def step(x):
        (x * x).sum().backward()

    gradients = []
    for function in (step, fastbp.compile(step)):
        x = fastbp.tensor([3.0], requires_grad=True)
        for factor in (10, 100):
            with x.register_hook(lambda g, factor=factor: g * factor):
                x.grad = None
                function(x)
                gradients.append(x.grad.item())
    assert gradients == [60, 600, 60, 600]


def test_hooks_of_arguments_that_have_no_hash():
    class Double:
        def __eq__(self, other):
            return False

        def __call__(self, g):
            return g * 2

    x = fastbp.tensor([3.0], requires_grad=True)
    x.register_hook(Double())
    fastbp.compile(lambda x: (x * x).sum().backward())(x)
    assert x.grad.item() == 12


def test_a_program_refuses_a_hook_that_reads_a_value():
    w = fastbp.tensor([1.0], requires_grad=True)
    w.register_hook(lambda g: print(g.item()))
    with pytest.raises(CompileError, match=r"test_compile_hooks.py:\d+: .*a tensor's values on the host"):
        fastbp.compile(lambda x: (w * x).sum().backward())(fastbp.ones(1))


def test_a_program_refuses_to_hook_a_tensor_from_outside():
    w = fastbp.tensor([1.0], requires_grad=True)

    def step(x):
        w.register_hook(lambda g: g * 2)
        (w * x).sum().backward()

    with pytest.raises(CompileError, match="register the hook outside, once"):
        fastbp.compile(step)(fastbp.ones(1))
    assert w.hooks is None


def test_a_program_may_hook_what_it_makes():
    w = fastbp.tensor([1.0], requires_grad=True)

    def step(x):
        w.grad = None
        y = w * x
        y.register_hook(lambda g: g * 2)
        y.sum().backward()
        return w.grad

    step = fastbp.compile(step)
    assert step(fastbp.full((1,), 3.0)).item() == 6
    assert step(fastbp.full((1,), 4.0)).item() == 8
