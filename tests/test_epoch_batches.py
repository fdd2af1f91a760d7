"""Batches of an epoch: every size, every order, and how few recordings and calls they need."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, count_variants
from epoch_runs import ROWS, arrays, assert_equal_epochs, by_hand, shuffled, stacked, training
from settings import numbers_of_threads

import fastbp
from fastbp.program import epoch as epochs

threads = numbers_of_threads(1, 2, 3)


@pytest.mark.parametrize(
    ("batch_size", "drop_last"),
    [(size, drop) for drop in (False, True) for size in (1, 7, 15, 44, 45, 46, 1000) if not (drop and size > ROWS)],
)
def test_every_batch_size(batch_size, drop_last, threads):
    for order in (None, shuffled()):
        options = {"permutation": order, "drop_last": drop_last}
        compiled = assert_equal_epochs(training("adam"), arrays(), batch_size, **options)
        ragged = ROWS % batch_size and not drop_last and batch_size < ROWS
        assert count_variants(compiled) == 1 + bool(ragged)


def test_a_seed_is_the_permutation_of_its_generator(threads):
    order = fastbp.randperm(ROWS, generator=fastbp.Generator(9))
    seen = []
    for options in ({"permutation": order}, {"seed": 9}):
        fastbp.manual_seed(5)
        step, *state = training()()
        results = fastbp.compile(step).run_epoch(arrays(), 10, **options)
        seen.append(all_state((results, state), False))
    assert_same(*seen)
    assert_equal_epochs(training(), arrays(), 10, permutation=order.numpy())


@pytest.mark.parametrize(
    "order",
    [[4, 3, 2, 1, 0] * 4, [7] * 12, list(range(44, -1, -2)), [1]],
    ids=["part", "one row", "every other", "one"],
)
def test_an_order_may_leave_rows_out_and_repeat_them(order):
    for kind in (list, np.array, lambda o: np.array(o, np.int32), lambda o: fastbp.tensor(np.array(o))):
        fastbp.manual_seed(5)
        step, *state = training()()
        expected = all_state((stacked(by_hand(step, arrays(), 5, order)), state), False)
        fastbp.manual_seed(5)
        step, *state = training()()
        got = fastbp.compile(step).run_epoch(arrays(), 5, permutation=kind(order))
        assert_same(expected, all_state((got, state), False))


def test_further_epochs_and_calls_need_no_new_recording():
    compiled = fastbp.compile(training()()[0])
    data = arrays()
    compiled.run_epoch(data, 10, seed=1)
    for seed in (2, 3):
        compiled.run_epoch(data, 10, seed=seed)
    compiled(*(fastbp.tensor(a[:10]) for a in data))
    compiled(*(fastbp.tensor(a[:5]) for a in data))
    compiled.run_epoch([np.array(a) for a in data], 10)
    compiled.run_epoch([fastbp.tensor(a[:40]) for a in data], 10)
    assert count_variants(compiled) == 2


def test_most_steps_are_run_natively():
    calls = []
    step = training()()[0]

    def counted(x, y):
        calls.append(x.shape)
        return step(x, y)

    epoch = epochs.Epoch(fastbp.compile(counted), arrays(), 5, None, False)
    turns = list(epoch)
    assert sum(turns) == epoch.steps == 9
    assert calls == [(5, 5)]  # its Python code runs once, to be recorded
    assert len(turns) < 9
