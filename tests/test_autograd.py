"""Autograd behaves as PyTorch's: what is recorded, where gradients go, what is refused, when memory is given back."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from op_cases import CASES

import fastbp
from fastbp.autograd import Function


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def leaf(values):
    return fastbp.tensor(values, dtype=fastbp.float64, requires_grad=True)


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_a_result_requires_grad_when_an_input_does():
    w, x = leaf([1.0, 2.0]), fastbp.ones(2, dtype=fastbp.float64)
    assert (w * x).requires_grad
    assert not (x * x).requires_grad
    assert w.is_leaf
    assert x.is_leaf
    assert not (w * x).is_leaf
    assert w.grad is None
    assert (w * x).grad_fn is not None
    assert (x * x).grad_fn is None


def test_only_floats_require_grad():
    with pytest.raises(RuntimeError):
        fastbp.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError):
        fastbp.tensor([True]).requires_grad_()
    assert not (leaf([1.0]) > 0).requires_grad
    assert not leaf([1.0, 2.0]).argmax().requires_grad
    assert not leaf([1.5]).to(fastbp.int64).requires_grad


def test_requires_grad_can_be_turned_on_and_off():
    x = fastbp.ones(2)
    assert x.requires_grad_() is x
    x.requires_grad = False
    assert not (x * 2).requires_grad
    with pytest.raises(RuntimeError):
        (leaf([1.0]) * 2).requires_grad_(False)


def test_no_grad_as_context_and_decorator():
    w = leaf([1.0])
    with fastbp.no_grad():
        assert not (w * 2).requires_grad
        with fastbp.no_grad():
            pass
        assert not (w * 2).requires_grad
    assert (w * 2).requires_grad

    @fastbp.no_grad()
    def double(t):
        """Doubles."""
        return t * 2

    assert not double(w).requires_grad
    assert double.__doc__ == "Doubles."
    with pytest.raises(ZeroDivisionError), fastbp.no_grad():
        raise ZeroDivisionError
    assert (w * 2).requires_grad


def test_no_grad_holds_for_its_thread_only():
    seen = []
    with fastbp.no_grad():
        thread = threading.Thread(target=lambda: seen.append((leaf([1.0]) * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_shares_memory_and_ends_the_history():
    w = leaf([3.0])
    y = w * 2
    d = y.detach()
    assert not d.requires_grad
    (d * w).backward()
    assert w.grad.item() == 6  # through w only
    d.fill_(1.0)
    assert y.item() == 1


def test_clone_copies_and_passes_the_gradient():
    w = leaf([3.0])
    c = w.clone()
    c.sum().backward()
    assert w.grad.item() == 1
    with fastbp.no_grad():
        c.fill_(7.0)
    assert w.item() == 3


# --- where gradients go -----------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_paths_and_over_calls():
    w = leaf([2.0, 3.0])
    (w * w + w).sum().backward()
    assert w.grad.tolist() == [5, 7]
    w.sum().backward()
    assert w.grad.tolist() == [6, 8]
    w.grad = None
    w.sum().backward()
    assert w.grad.tolist() == [1, 1]


def test_a_gradient_object_stays_the_same_while_it_accumulates():
    w = leaf([2.0, 3.0])
    w.sum().backward()
    grad = w.grad
    w.sum().backward()
    assert w.grad is grad
    assert grad.tolist() == [2, 2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_are_nobody_elses_memory_and_accumulate(case):
    tensors = case.tensors(fastbp)
    leaves = [t for t in tensors if t.requires_grad]
    y = case.function(fastbp, *tensors)
    upstream = fastbp.ones_like(y.detach())
    y.backward(upstream)
    grads = [t.grad.numpy() for t in leaves]
    others = [upstream.numpy(), *(t.detach().numpy() for t in tensors)]
    for i, grad in enumerate(grads):
        assert not any(np.shares_memory(grad, other) for other in [*others, *grads[i + 1 :]])
    first = [grad.copy() for grad in grads]
    case.function(fastbp, *tensors).backward(upstream)
    for t, grad in zip(leaves, first):
        np.testing.assert_array_equal(t.grad.numpy(), 2 * grad)


def test_diamond_and_reuse():
    x = leaf([2.0])
    a = x * 3
    b = a * a
    c = a + b
    (b * c).backward()  # 9x²(3x + 9x²) = 27x³ + 81x⁴
    assert x.grad.item() == 81 * 4 + 324 * 8


def test_branches_that_lead_nowhere_are_ignored():
    x, idle = leaf([2.0]), leaf([1.0])
    _ = idle * x
    (x * 3).backward()
    assert x.grad.item() == 3
    assert idle.grad is None


def test_only_leaves_keep_gradients_unless_asked():
    x = leaf([2.0])
    y, z = x * 3, x * 5
    y.retain_grad()
    (y * z).backward()
    assert y.grad.item() == 10
    assert x.grad.item() == 60
    x.retain_grad()  # no effect on a leaf
    with pytest.raises(RuntimeError):
        fastbp.ones(1).retain_grad()


def test_backward_on_a_leaf():
    w = leaf(2.0)
    w.backward()
    assert w.grad.item() == 1


def test_backward_takes_an_upstream_gradient():
    w = leaf([[1.0, 2.0]])
    y = w * w
    y.backward(fastbp.tensor([[10.0, 100.0]], dtype=fastbp.float64))
    assert w.grad.tolist() == [[20, 400]]


def test_gradients_have_the_dtype_of_their_tensor():
    single, double = fastbp.ones(2, requires_grad=True), leaf([1.0, 2.0])
    (single * double).sum().backward()
    assert (single.grad.dtype, double.grad.dtype) == (fastbp.float32, fastbp.float64)
    single.grad = None
    (single.double() * 2).sum().backward()
    assert single.grad.dtype == fastbp.float32


def test_a_running_total_of_losses():
    w = leaf([1.0, 2.0])
    total = 0
    for _ in range(3):
        total += (w * w).sum()
    total.backward()
    assert w.grad.tolist() == [6, 12]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_backward_needs_a_scalar_or_a_matching_gradient():
    y = leaf([1.0, 2.0]) * 2
    with pytest.raises(RuntimeError, match="scalar"):
        y.backward()
    with pytest.raises(RuntimeError):
        y.backward(fastbp.ones(3, dtype=fastbp.float64))
    with pytest.raises(RuntimeError):
        fastbp.ones(1).backward()


def test_a_second_backward_needs_retain_graph():
    w = leaf([3.0])
    y = w * w
    y.backward(retain_graph=True)
    y.backward()
    assert w.grad.item() == 12
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()
    assert w.grad.item() == 12


@pytest.mark.parametrize(
    "change", [lambda t: t.add_(1.0), lambda t: t.fill_(2.0), lambda t: t.__setitem__(0, 5.0), lambda t: t[1:].zero_()]
)
def test_a_saved_tensor_changed_in_place_is_noticed(change):
    w, x = leaf([3.0, 4.0]), fastbp.ones(2, dtype=fastbp.float64)
    y = (w * x).sum()
    change(x)
    with pytest.raises(RuntimeError, match="in place"):
        y.backward()
    assert w.grad is None


def test_changing_what_was_not_saved_is_fine():
    w, x = leaf([3.0]), fastbp.ones(1, dtype=fastbp.float64)
    y = w + x
    x.add_(1.0)
    y.backward()
    assert w.grad.item() == 1


def test_a_result_saved_by_its_own_node_is_watched_too():
    w = leaf([0.5])
    y = fastbp.exp(w)
    with fastbp.no_grad():
        y.mul_(2.0)
    with pytest.raises(RuntimeError, match="in place"):
        y.backward()


def test_a_leaf_that_requires_grad_changes_only_under_no_grad():
    w = leaf([1.0, 2.0])
    for change in (lambda: w.add_(1.0), lambda: w.__setitem__(0, 5.0), lambda: w.zero_()):
        with pytest.raises(RuntimeError):
            change()
    assert w.tolist() == [1, 2]
    with fastbp.no_grad():
        w -= 0.5
    assert w.tolist() == [0.5, 1.5]
    assert w.requires_grad
    assert w.is_leaf


# --- depth and memory -------------------------------------------------------------------------------------------------


def test_a_chain_of_100_000_nodes():
    x = leaf([1.0])
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert y.item() == 100_001
    assert x.grad.item() == 1
    del y  # the chain is freed node by node: no recursion


class Token:
    """Something whose end can be observed."""


class Marked(Function):
    """The identity, whose node carries a token and saves its output."""

    @staticmethod
    def forward(ctx, x, token):
        y = x * 1.0
        ctx.token = token
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, dy):
        return dy, None


@pytest.mark.parametrize("differentiated", [False, True])
def test_graph_memory_goes_with_the_last_reference(differentiated):
    gc.collect()
    gc.disable()  # reference counts alone must do it
    try:
        x = leaf([2.0])
        token = Token()
        gone = weakref.ref(token)
        y = fastbp.exp(Marked.apply(x * 3, token)) * 2
        hidden = y * y
        hidden_gone = weakref.ref(hidden)
        z = fastbp.cat([hidden, y])[0]
        del token, y, hidden
        assert gone() is not None
        if differentiated:
            z.backward()
        del z
        assert gone() is None
        assert hidden_gone() is None
    finally:
        gc.enable()


def test_no_graph_is_kept_without_gradients():
    gc.disable()
    try:
        x = fastbp.ones(3)
        middle = x * 2
        gone = weakref.ref(middle)
        y = middle + 1
        del middle
        assert gone() is None
        assert y.tolist() == [3, 3, 3]
    finally:
        gc.enable()


def test_a_graph_may_cross_threads():
    x = leaf([3.0])
    y = x * x
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    assert x.grad.item() == 6
