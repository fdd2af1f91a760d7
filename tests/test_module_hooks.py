"""Hooks of modules: functions called with their inputs, outputs and gradients."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest

import fastbp
from fastbp import nn


def parameter(values):
    return fastbp.tensor(np.asarray(values, np.float64), requires_grad=True)


def calls(library, model, x):
    """What the hooks of a two-layer model are called with, and the gradients in the end."""
    seen = []

    def note(kind, *tensors):
        flat = [t if t is None else t.detach().numpy().copy() for t in tensors]
        seen.append((kind, flat))

    first, second = model[0], model[1]
    first.register_forward_pre_hook(lambda m, args: (note("pre", *args), (args[0] * 2,))[1])
    first.register_forward_hook(lambda m, args, y: note("forward", *args, y))
    first.register_forward_hook(lambda m, args, y: y + 1)
    first.register_full_backward_hook(lambda m, gi, go: note("first", *gi, *go))
    second.register_full_backward_pre_hook(lambda m, go: (note("before", *go), (go[0] * 3,))[1])
    second.register_full_backward_hook(lambda m, gi, go: (note("second", *gi, *go), (gi[0] * 5,))[1])
    model(x).square().sum().backward()
    return seen, [t.grad.numpy() for t in (x, *model.parameters()) if t.grad is not None]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # PyTorch says so where no input is differentiated
@pytest.mark.parametrize("differentiated", [True, False], ids=["input with gradient", "input without"])
def test_hooks_of_modules_are_called_as_by_pytorch(differentiated):
    torch = pytest.importorskip("torch")
    arrays = np.random.default_rng(0).standard_normal((4, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)).double()
    ours = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)).double()
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    results = []
    for library, model in ((torch, theirs), (fastbp, ours)):
        x = library.tensor(arrays)
        results.append(calls(library, model, x.requires_grad_() if differentiated else x))
    (their_calls, their_gradients), (our_calls, our_gradients) = results
    assert [kind for kind, _ in our_calls] == [kind for kind, _ in their_calls]
    for (_, expected), (_, actual) in zip(their_calls, our_calls):
        for a, b in zip(expected, actual, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(b, a, rtol=1e-12)
    for a, b in zip(their_gradients, our_gradients, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12)


def test_hooks_with_keyword_arguments():
    class Scale(nn.Module):
        def forward(self, x, factor=1.0):
            return x * factor

    module, seen = Scale(), []
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] * 2}), with_kwargs=True)
    module.register_forward_hook(lambda m, args, kwargs, y: seen.append(kwargs["factor"]), with_kwargs=True)
    assert module(fastbp.ones(1), factor=3.0).item() == 6
    assert seen == [6]


def test_a_removed_hook_is_called_no_more():
    module, seen = nn.Linear(2, 2), []
    with module.register_forward_hook(lambda m, args, y: seen.append(1)):
        module(fastbp.ones(1, 2))
    module(fastbp.ones(1, 2))
    assert seen == [1]


def test_a_copy_of_a_module_has_its_hooks():
    module, seen = nn.Linear(2, 2), []
    handle = module.register_forward_hook(lambda m, args, y: seen.append(m))
    twin = copy.deepcopy(module)
    handle.remove()
    twin(fastbp.ones(1, 2))
    module(fastbp.ones(1, 2))
    assert seen == [twin]


def test_backward_hooks_of_a_module_with_several_outputs():
    class Both(nn.Module):
        def forward(self, x):
            return x * 2, x * 3

    module, seen = Both(), []
    module.register_full_backward_hook(lambda m, gi, go: seen.append(([g.item() for g in gi], [g.item() for g in go])))
    x = parameter([1.0])
    a, _ = module(x)
    a.sum().backward()
    assert seen == [([2], [1, 0])]
    assert x.grad.item() == 2


def test_backward_hooks_need_tensors_from_forward():
    class Named(nn.Module):
        def forward(self, x):
            return {"y": x}

    module = Named()
    module.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.raises(TypeError, match=r"\[Named\] expected a tensor or a tuple of tensors from forward"):
        module(parameter([1.0]))


def test_a_backward_hook_that_returns_too_few_gradients():
    module = nn.Linear(2, 2)
    module.register_full_backward_hook(lambda m, gi, go: ())
    y = module(fastbp.ones(1, 2, requires_grad=True))
    with pytest.raises(RuntimeError, match=r"expected 1 gradients in place of grad_input, got 0"):
        y.sum().backward()


@pytest.mark.parametrize("kind", ["full_backward_pre", "full_backward"])
@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (5, TypeError, "expected a tensor or None from the hook, got int"),
        ("x", TypeError, "got str"),
        ((None,), TypeError, "got NoneType"),
        ((np.ones((1, 2)),), TypeError, "got ndarray"),
        ((fastbp.zeros(1, 2, dtype=fastbp.float64),), ValueError, r"expected fastbp.float32 \(1, 2\) from the hook"),
        ((fastbp.zeros(7, 7),), ValueError, r"got fastbp.float32 \(7, 7\)"),
    ],
)
def test_a_backward_hook_that_returns_something_else(kind, result, error, message):
    module = nn.Linear(2, 2)
    getattr(module, f"register_{kind}_hook")(lambda *given: result)
    x = fastbp.ones(1, 2, requires_grad=True)
    with pytest.raises(error, match=message):
        module(x).sum().backward()
    assert x.grad is None


def test_a_recorded_backward_pass_through_hooks_is_given_up_with_its_last_reference():
    module = nn.Tanh()
    module.register_full_backward_hook(lambda m, gi, go: None)
    x = parameter([1.0])
    gone = weakref.ref(x)
    gc.collect()
    gc.disable()
    try:
        module(x * 1.0).sum().backward(create_graph=True)
        x.grad = None
        del x
        assert gone() is None
    finally:
        gc.enable()
