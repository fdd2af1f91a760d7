"""Hooks: functions called with gradients of tensors, and with inputs, outputs and gradients of modules."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest

import fastbp
from fastbp import CompileError, nn


def parameter(values):
    return fastbp.tensor(np.asarray(values, np.float64), requires_grad=True)


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_a_hook_of_a_leaf_sees_its_whole_gradient_once():
    x, seen = parameter([1.0, 2.0]), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 3 + x * x).sum().backward()
    assert seen == [[5, 7]]
    assert x.grad.tolist() == [5, 7]


def test_a_hook_of_a_result_replaces_its_gradient():
    x = parameter([1.0, 2.0])
    h = x * 3
    h.retain_grad()
    h.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: g + 1)  # after the first
    h.sum().backward()
    assert h.grad.tolist() == [11, 11]
    assert x.grad.tolist() == [33, 33]


def test_a_hook_of_one_of_several_outputs():
    class Pair(fastbp.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, da, db):
            return da * 2 + db * 3

    x, seen = parameter([1.0]), []
    a, b = Pair.apply(x)
    b.register_hook(lambda g: seen.append(g.item()))
    a.register_hook(lambda g: g * 10)
    (a + b * 5).sum().backward()
    assert seen == [5]
    assert x.grad.item() == 10 * 2 + 5 * 3


def test_a_hook_is_called_in_every_pass_until_it_is_removed():
    x, seen = parameter([1.0]), []
    handle = x.register_hook(lambda g: seen.append(1))
    x.sum().backward()
    x.sum().backward()
    handle.remove()
    handle.remove()  # a second time nothing happens
    x.sum().backward()
    assert len(seen) == 2


def test_a_handle_removes_its_hook_at_the_end_of_a_block():
    x, seen = parameter([1.0]), []
    with x.register_hook(lambda g: seen.append(1)):
        x.sum().backward()
    x.sum().backward()
    assert len(seen) == 1


def test_removing_one_hook_keeps_the_others():
    x, seen = parameter([1.0]), []
    handles = [x.register_hook(lambda g, name=name: seen.append(name)) for name in "abc"]
    handles[1].remove()
    x.sum().backward()
    assert seen == ["a", "c"]


def test_a_handle_does_not_keep_the_graph():
    x = parameter([1.0])
    h = x * 2
    node = weakref.ref(h.grad_fn)
    handle = h.register_hook(lambda g: None)
    gc.disable()
    try:
        del h
        assert node() is None
    finally:
        gc.enable()
    handle.remove()


def test_hooks_are_part_of_what_is_differentiated_again():
    x = parameter([3.0])
    x.register_hook(lambda g: g * g)
    (x * x).sum().backward(create_graph=True)
    assert x.grad.item() == 36  # (2x)²
    (second,) = fastbp.autograd.grad(x.grad, x)
    assert second.item() == (8 * 3) ** 2  # the hook sees this gradient too


def test_an_error_in_a_hook_leaves_gradients_as_they_were():
    x, w = parameter([1.0]), parameter([1.0])

    def fail(g):
        raise KeyError("mine")

    x.register_hook(fail)
    with pytest.raises(KeyError, match="mine"):
        (x + w).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda g: 3.0, TypeError, "expected a tensor or None from the hook, got float"),
        (lambda g: g[:1], ValueError, r"\(2,\) from the hook, got .*\(1,\)"),
        (lambda g: g.float(), ValueError, "got fastbp.float32"),
    ],
)
def test_a_hook_that_returns_something_else(result, error, message):
    x = parameter([1.0, 2.0])
    x.register_hook(result)
    with pytest.raises(error, match=message):
        x.sum().backward()


def test_a_hook_needs_a_tensor_that_requires_grad():
    with pytest.raises(RuntimeError, match=r"\[register_hook\] expected a tensor that requires grad"):
        fastbp.ones(2).register_hook(lambda g: None)


def test_what_a_hook_keeps_is_not_changed_by_later_passes():
    x, seen = parameter([1.0, 1.0]), []
    x.register_hook(seen.append)
    for factor in (1.0, 2.0, 3.0):
        (x * factor).sum().backward()
    assert [g.tolist() for g in seen] == [[1, 1], [2, 2], [3, 3]]
    assert x.grad.tolist() == [6, 6]


def test_what_a_hook_returns_is_not_changed_by_later_passes():
    x, mine = parameter([1.0, 1.0]), fastbp.tensor([5.0, 5.0], dtype=fastbp.float64)
    x.register_hook(lambda g: mine)
    for _ in range(2):
        x.sum().backward()
    assert mine.tolist() == [5, 5]
    assert x.grad.tolist() == [10, 10]


def test_a_result_keeps_its_gradient_after_its_hooks_are_removed():
    x = parameter([1.0, 2.0])
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: None).remove()
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3, 3]


def test_a_hook_must_be_a_function():
    with pytest.raises(TypeError, match=r"\[register_hook\] expected a function, got int"):
        parameter([1.0]).register_hook(3)
    for name in ("forward_pre", "forward", "full_backward_pre", "full_backward"):
        with pytest.raises(TypeError, match=rf"\[register_{name}_hook\] expected a function, got int"):
            getattr(nn.Linear(2, 2), f"register_{name}_hook")(3)


# --- modules ----------------------------------------------------------------------------------------------------------


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


# --- programs ---------------------------------------------------------------------------------------------------------


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
    with pytest.raises(CompileError, match=r"test_hooks.py:\d+: .*a tensor's values on the host"):
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
