"""A call of a compiled function that fails changes nothing, and the next one goes on."""

from __future__ import annotations

import pytest
from compiled_runs import all_state, assert_same, labelled, state_of

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler


def everything():
    """A step with all that must stay when it fails: dropout, clipping, momentum, a schedule, gradients of others."""
    fastbp.manual_seed(4)
    model, other = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3)), nn.Linear(3, 3)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50)

    def step(x, y, fail=False):
        optimizer.zero_grad()
        loss = F.cross_entropy(other(model(x)), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        schedule.step()
        optimizer.step()
        if fail:
            raise LookupError("of the user")
        return loss

    return step, [model, other, optimizer, schedule]


@pytest.mark.parametrize("calls_before", [0, 1, 2])
@pytest.mark.parametrize("label", [3, -1, 2**40])
def test_labels_out_of_range_change_nothing(label, calls_before):
    step, state = everything()
    compiled = fastbp.compile(step, keep_grads=True)
    x, y = labelled()
    for _ in range(calls_before):
        compiled(x, y)
    before = all_state(state)
    wrong = y.clone()
    wrong[5] = label
    for _ in range(2):
        with pytest.raises(IndexError, match=f"got {label}"):
            compiled(x, wrong)
        assert_same(before, all_state(state))
    compiled(x, y)
    expected_step, expected = everything()
    for _ in range(calls_before + 1):
        expected_step(x, y)
    assert_same(list(state_of(expected[0], False)), list(state_of(state[0], False)))


def test_labels_of_nll_loss_are_checked_before_a_run():
    runs = fastbp.zeros(1)
    compiled = fastbp.compile(lambda x, y: (runs.add_(1), fastbp.nll_loss(x, y, ignore_index=7))[1])
    x = fastbp.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    for labels, loss in (([0, 1], 2.5), ([0, 2], None), ([7, 1], 4.0), ([-1, 0], None), ([1, 0], 2.5)):
        if loss is None:
            with pytest.raises(IndexError, match=r"expected target classes from 0 to 1 or ignore_index 7, got (2|-1)"):
                compiled(x, fastbp.tensor(labels))
        else:
            assert compiled(x, fastbp.tensor(labels)).item() == loss
    assert runs.item() == 3


def test_labels_are_checked_before_a_run_that_differentiates_weights_too():
    compiled = fastbp.compile(lambda x, y, s: fastbp.autograd.grad(fastbp.nll_loss(x, y, sample_weight=s), [s])[0])
    x, s = fastbp.tensor([[-1.0, -2.0], [-3.0, -4.0]]), fastbp.ones(2, requires_grad=True)
    for labels, gradient in (([0, 1], [-0.75, 0.75]), ([0, 2], None), ([-100, 1], [0, 0]), ([-1, 0], None)):
        if gradient is None:
            with pytest.raises(IndexError, match=r"^\[nll_forward\] expected target classes from 0 to 1 .* got (2|-1)"):
                compiled(x, fastbp.tensor(labels), s)
        else:
            assert compiled(x, fastbp.tensor(labels), s).tolist() == gradient


def test_indices_out_of_range_change_nothing():
    table = fastbp.zeros(4)
    compiled = fastbp.compile(lambda x, i: (table.add_(1), x[i]))
    x = fastbp.arange(4)
    for i, fits in ((4, False), (3, True), (4, False), (-4, True), (-5, False)):
        if fits:
            compiled(x, fastbp.tensor([i]))
        else:
            with pytest.raises(IndexError):
                compiled(x, fastbp.tensor([i]))
    assert table.tolist() == [2] * 4


@pytest.mark.parametrize("calls_before", [0, 2])
def test_an_exception_of_the_user_changes_nothing(calls_before):
    step, state = everything()
    compiled = fastbp.compile(step, keep_grads=True)
    x, y = labelled()
    for _ in range(calls_before):
        compiled(x, y)
    before = all_state(state)
    for _ in range(2):
        with pytest.raises(LookupError, match="of the user"):
            compiled(x, y, fail=True)
        assert_same(before, all_state(state))
    assert fastbp.is_grad_enabled()
    compiled(x, y)


def test_a_refusal_changes_nothing():
    step, state = everything()
    before = all_state(state)
    with pytest.raises(fastbp.CompileError):
        fastbp.compile(lambda x, y: step(x, y).item())(*labelled())
    assert_same(before, all_state(state))
