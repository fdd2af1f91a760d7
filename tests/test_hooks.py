"""Hooks of tensors: functions called with their gradients."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import fastbp
from fastbp import nn


def parameter(values):
    return fastbp.tensor(np.asarray(values, np.float64), requires_grad=True)


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
