"""autograd.grad and the derivatives of functions: values are PyTorch's, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import autograd, nn

A = np.random.default_rng(1).standard_normal((3, 3))


def parameter(values):
    return fastbp.tensor(np.asarray(values, np.float64), requires_grad=True)


# --- grad -------------------------------------------------------------------------------------------------------------


def test_grad_returns_gradients_and_leaves_the_attributes_alone():
    x, w = parameter([1.0, 2.0]), parameter([3.0, 4.0])
    dx, dw = autograd.grad((x * w).sum(), (x, w))
    assert (dx.tolist(), dw.tolist()) == ([3, 4], [1, 2])
    assert x.grad is None
    assert w.grad is None


def test_grad_of_a_result_on_the_way():
    x = parameter([1.0, 2.0])
    h = x * x
    y = (h * h).sum()
    assert autograd.grad(y, h, retain_graph=True)[0].tolist() == [2, 8]
    dh, dx = autograd.grad(y, [h, x])
    assert (dh.tolist(), dx.tolist()) == ([2, 8], [4, 32])


def test_grad_weighs_several_outputs():
    x = parameter([1.0, 2.0])
    (dx,) = autograd.grad([x * 2, (x * x).sum()], x, [fastbp.tensor([1.0, 10.0], dtype=fastbp.float64), None])
    assert dx.tolist() == [2 + 2, 20 + 4]


def test_grad_runs_only_what_leads_to_its_inputs():
    ran = []

    class Watched(fastbp.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            ran.append(1)
            return dy

    x, w = parameter([1.0]), parameter([2.0])
    y = x * 3 + Watched.apply(w)
    autograd.grad(y, x, retain_graph=True)
    assert ran == []
    autograd.grad(y, w)
    assert ran == [1]


def test_grad_of_grad():
    x = parameter([2.0])
    (first,) = autograd.grad(x**3, x, create_graph=True)
    (second,) = autograd.grad(first, x, create_graph=True)
    (third,) = autograd.grad(second, x)
    assert (first.item(), second.item(), third.item()) == (12, 12, 6)


def test_an_unused_input():
    x, other = parameter([1.0]), parameter([1.0])
    with pytest.raises(RuntimeError, match=r"\[grad\] expected outputs that depend on every input, .* input 1"):
        autograd.grad(x * 2, [x, other])
    assert autograd.grad(x * 2, [x, other], allow_unused=True)[1] is None


def test_the_graph_is_given_up_unless_it_is_retained():
    x = parameter([1.0])
    y = x * x
    autograd.grad(y, x, retain_graph=True)
    autograd.grad(y, x)
    with pytest.raises(RuntimeError, match="already released"):
        autograd.grad(y, x)


def test_an_output_is_its_own_input():
    x = parameter([1.0, 2.0])
    y = x * 2
    dy = fastbp.tensor([5.0, 6.0], dtype=fastbp.float64)
    assert autograd.grad(y, [y, x], dy)[0].tolist() == [5, 6]


def test_grad_sees_what_hooks_made_of_gradients():
    x = parameter([1.0])
    x.register_hook(lambda g: g * 10)
    h = x * 2
    h.register_hook(lambda g: g * 100)
    dh, dx = autograd.grad(h.sum(), [h, x])
    assert (dh.item(), dx.item()) == (100, 2000)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: autograd.grad(x.detach(), x), RuntimeError, "got output 0 without"),
        (lambda x: autograd.grad(x * 2, x.detach()), RuntimeError, "got input 0 without"),
        (lambda x: autograd.grad(x * 2, x), ValueError, r"of shape \(2,\), got None"),
        (lambda x: autograd.grad(x * 2, x, fastbp.ones(2)), ValueError, r"float64 .* got .*float32"),
        (lambda x: autograd.grad(x * 2, x, [None, None]), ValueError, "expected 1 grad_outputs"),
        (lambda x: autograd.grad(x.sum(), []), ValueError, "at least one input"),
        (lambda x: autograd.grad(3.0, x), TypeError, "expected outputs as a tensor"),
        (lambda x: fastbp.vjp(lambda t: t * 2, x), ValueError, r"expected v of shape \(2,\), got None"),
        (lambda x: fastbp.jvp(lambda t: t * 2, x, (x, x)), ValueError, "expected v with 1 tensors"),
        (lambda x: fastbp.hessian(lambda t: t * 2, x), ValueError, "a function that gives one number"),
        (lambda x: fastbp.jacobian(lambda t: t, fastbp.tensor([1])), TypeError, "inputs of floating dtype"),
        (lambda x: fastbp.jacobian(lambda t: t.argmax(), x), TypeError, r"\[jacobian\] expected a result of floating"),
        (lambda x: fastbp.jvp(lambda t: t > 1, x, x), TypeError, r"\[jvp\] expected a result of floating"),
        (lambda x: fastbp.jacobian(lambda t: 1.0, x), TypeError, "the function's result as a tensor"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(parameter([1.0, 2.0]))


# --- derivatives of functions -----------------------------------------------------------------------------------------


def smooth(lib, x):
    a = lib.tensor(A)
    return lib.tanh(a @ x) * x.sum() + lib.exp(x)


def two(lib, x, y):
    return (x * y.sum()).sin(), (x[:1] * y**2).sum()


def number(lib, x):
    return (smooth(lib, x) ** 2).sum()


def number_of_two(lib, x, y):
    return (two(lib, x, y)[0] * x).sum() * y[0]


X, Y, V = (np.random.default_rng(seed).standard_normal(3) for seed in (2, 3, 4))
FORMS = {
    "one": (smooth, (X,), (V,), (V,)),
    "two": (two, (X, Y[:2]), (V, V[:2]), (V, V[0])),
    "constant": (lambda lib, x: lib.tensor(A[0]) + 0 * x, (X,), (V,), (V,)),
}
NUMBERS = {"one": (number, (X,), (V,)), "two": (number_of_two, (X, Y[:2]), (V, V[:2]))}


def flat(values):
    return [values] if hasattr(values, "detach") else [leaf for value in values for leaf in flat(value)]


def agree(ours, theirs):
    assert len(flat(ours)) == len(flat(theirs))
    for a, b in zip(flat(ours), flat(theirs)):
        assert not a.requires_grad
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-13)


def given(lib, arrays):
    tensors = tuple([lib.tensor(np.asarray(a)) for a in arrays])
    return tensors[0] if len(tensors) == 1 else tensors


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["vjp", "jvp", "jacobian"])
def test_first_derivatives_are_those_of_pytorch(name, form):
    torch = pytest.importorskip("torch")
    function, points, along, across = FORMS[form]
    results = []
    for lib, derivatives in ((fastbp, fastbp.autograd.functional), (torch, torch.autograd.functional)):
        vectors = {"vjp": [given(lib, across)], "jvp": [given(lib, along)], "jacobian": []}[name]
        f = lambda *xs, lib=lib: function(lib, *xs)  # noqa: E731
        results.append(getattr(derivatives, name)(f, given(lib, points), *vectors))
    agree(*results)


@pytest.mark.parametrize("form", NUMBERS)
@pytest.mark.parametrize("name", ["hessian", "hvp", "vhp"])
def test_second_derivatives_of_functions_are_those_of_pytorch(name, form):
    torch = pytest.importorskip("torch")
    function, points, along = NUMBERS[form]
    results = []
    for lib, derivatives in ((fastbp, fastbp.autograd.functional), (torch, torch.autograd.functional)):
        vectors = [] if name == "hessian" else [given(lib, along)]
        f = lambda *xs, lib=lib: function(lib, *xs)  # noqa: E731
        results.append(getattr(derivatives, name)(f, given(lib, points), *vectors))
    agree(*results)


def test_products_are_those_with_the_jacobian_and_the_hessian():
    x, v = fastbp.tensor(X), fastbp.tensor(V)
    jacobian = fastbp.jacobian(lambda t: smooth(fastbp, t), x).numpy()
    np.testing.assert_allclose(fastbp.vjp(lambda t: smooth(fastbp, t), x, v)[1].numpy(), V @ jacobian, rtol=1e-12)
    np.testing.assert_allclose(fastbp.jvp(lambda t: smooth(fastbp, t), x, v)[1].numpy(), jacobian @ V, rtol=1e-12)
    hessian = fastbp.hessian(lambda t: number(fastbp, t), x).numpy()
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12)
    np.testing.assert_allclose(fastbp.hvp(lambda t: number(fastbp, t), x, v)[1].numpy(), hessian @ V, rtol=1e-11)


def test_results_can_be_differentiated_with_create_graph():
    x = parameter(X)
    penalty = fastbp.jacobian(lambda t: t**3, x, create_graph=True).square().sum()
    (dx,) = autograd.grad(penalty, x)
    np.testing.assert_allclose(dx.numpy(), 36 * X**3, rtol=1e-12)


def test_derivatives_record_even_under_no_grad():
    with fastbp.no_grad():
        assert fastbp.jacobian(lambda t: t * t, fastbp.tensor([3.0])).tolist() == [[6]]


def test_an_empty_output_has_an_empty_jacobian():
    assert fastbp.jacobian(lambda t: t[:0], fastbp.zeros(3)).shape == (0, 3)


def test_derivatives_leave_the_gradients_of_weights_alone():
    layer = nn.Linear(3, 2)
    fastbp.jacobian(layer, fastbp.randn(3))
    fastbp.hessian(lambda x: layer(x).square().sum(), fastbp.randn(3))
    assert layer.weight.grad is None


def test_derivatives_inside_a_program():
    """A penalty on the gradient of the input: the step differentiates twice."""
    fastbp.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    x = fastbp.randn(5, 3)

    def step(x):
        points = x.detach().requires_grad_()
        (slope,) = autograd.grad(model(points).sum(), points, create_graph=True)
        loss = slope.square().sum()
        model.zero_grad()
        loss.backward()
        return loss, [p.grad for p in model.parameters() if p.grad is not None]

    expected, gradients = step(x)
    loss, compiled = fastbp.compile(step)(x)
    assert loss.item() == expected.item()
    assert len(compiled) == len(gradients) > 2
    for a, b in zip(compiled, gradients):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
