"""The arrays that run_epoch takes: every kind and shape, and those that change between epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, count_variants, training_step
from epoch_runs import ROWS, arrays, assert_equal_epochs, by_hand, network, shuffled, stacked, training
from settings import numbers_of_threads

import fastbp
from fastbp import nn, optim

threads = numbers_of_threads(1, 2, 3)


def variants_of(data: list[np.ndarray], kind: str, folder: Path) -> list[Any]:
    if kind == "tensors":
        return [fastbp.tensor(a) for a in data]
    if kind == "mixed":
        return [fastbp.tensor(data[0]), data[1]]
    if kind == "that require grad":
        return [fastbp.tensor(data[0], requires_grad=True), data[1]]
    if kind == "with history":
        return [fastbp.tensor(data[0], requires_grad=True) * 1, data[1]]
    if kind == "read-only":
        for a in data:
            a.flags.writeable = False
    if kind in ("mapped", "mapped for reading"):
        for i, a in enumerate(data):
            np.save(folder / f"{i}.npy", a)
        return [np.load(folder / f"{i}.npy", mmap_mode="r" if "reading" in kind else "r+") for i in range(len(data))]
    if kind == "strided":
        return [np.repeat(a, 2, axis=0)[::2] for a in data]
    if kind == "transposed":
        return [np.asfortranarray(a) for a in data]
    if kind == "strided tensors":
        return [fastbp.tensor(np.repeat(a, 2, axis=0))[::2] for a in data]
    return data


@pytest.mark.parametrize(
    "kind",
    "arrays|tensors|mixed|that require grad|with history|read-only|mapped|mapped for reading|strided|transposed"
    "|strided tensors".split("|"),
)
def test_every_kind_of_array(kind, tmp_path):
    for order in (None, shuffled()):
        given = variants_of(arrays(), kind, tmp_path)
        before = [np.array(a.detach().numpy() if isinstance(a, fastbp.Tensor) else a) for a in given]
        compiled = assert_equal_epochs(training(), given, 10, permutation=order)
        assert count_variants(compiled) == 2
        for a, b in zip(given, before):
            np.testing.assert_array_equal(a.detach().numpy() if isinstance(a, fastbp.Tensor) else a, b)
            assert not isinstance(a, fastbp.Tensor) or a.grad is None


def test_rows_of_more_dimensions_and_of_one():
    x = np.random.default_rng(0).standard_normal((20, 2, 3)).astype(np.float32)
    w = np.random.default_rng(1).random(20) > 0.5

    def setup():
        layer = nn.Linear(6, 3)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(a, keep):
            optimizer.zero_grad()
            loss = (layer(a.reshape(-1, 6)).square().sum(1) * keep.to(fastbp.float32)).sum()
            loss.backward()
            optimizer.step()
            return loss

        return step, layer, optimizer

    assert_equal_epochs(setup, [x, w], 6, permutation=shuffled(20))


def test_three_arrays_and_one(threads):
    x, y = arrays()
    weight = np.random.default_rng(2).random(ROWS).astype(np.float32)

    def setup():
        model = network()
        optimizer = optim.Adam(model.parameters())
        step = training_step(model, optimizer, lambda p, t: ((p - t[:, :3]).square().sum(1) * t[:, 3]).sum())
        return lambda a, b, c: step(a, fastbp.cat([b, c.unsqueeze(1)], dim=1)), model, optimizer

    assert_equal_epochs(setup, [x, y, weight], 10, permutation=shuffled())


def test_arrays_changed_between_epochs():
    data = arrays()
    fastbp.manual_seed(5)
    step, *state = training()()
    expected = []
    for _ in range(3):
        expected.append(all_state((stacked(by_hand(step, data, 10)), state), False))
        data[0] *= 0.5
    data = arrays()
    fastbp.manual_seed(5)
    step, *state = training()()
    compiled = fastbp.compile(step)
    for before in expected:
        assert_same(before, all_state((compiled.run_epoch(data, 10), state), False))
        data[0] *= 0.5


def test_arrays_and_order_that_the_steps_change():
    """Later steps see the array as earlier ones leave it, and the order as it was given."""
    given = fastbp.arange(20.0)
    expected = fastbp.compile(lambda x: x.sum() + given.mul_(2).sum() * 0)
    results = expected.run_epoch([given], 5)
    np.testing.assert_array_equal(results.numpy(), [10, 2 * 35, 4 * 60, 8 * 85])
    order = fastbp.arange(19, -1, -1)

    @fastbp.compile
    def step(x):
        order.fill_(10**9)
        return x.sum()

    results = step.run_epoch([fastbp.arange(20.0)], 10, permutation=order)
    np.testing.assert_array_equal(results.numpy(), [145, 45])


def test_indices_that_the_steps_change_are_checked_again():
    rows, table = fastbp.zeros(4, dtype=fastbp.int64), fastbp.ones(10, 2)

    @fastbp.compile
    def step(x):
        value = table[x].sum()
        rows.fill_(10**6)
        return value

    with pytest.raises(IndexError, match="got 1000000"):
        step.run_epoch([rows], 1)
