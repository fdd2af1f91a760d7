"""Arguments of compiled functions: shapes, types, arrays, nested and other objects."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from compiled_runs import (
    BATCHES,
    Keywords,
    assert_same,
    assert_same_run,
    batch,
    count_variants,
    labelled,
    perceptron,
    trace,
    training_setup,
    with_sgd,
)

import fastbp
from fastbp import optim
from fastbp.nn import functional as F


def test_a_ragged_last_batch():
    calls = [*BATCHES, batch(9, rows=3), BATCHES[0], batch(8, rows=1), batch(9, rows=3)]
    assert_same_run(with_sgd(), calls, variants=3)


def test_a_batch_without_rows():
    assert_same_run(with_sgd(), [BATCHES[0], batch(0, rows=0), BATCHES[0]])


Pair = namedtuple("Pair", "left right")


def test_nested_arguments_and_results():
    def setup():
        model = perceptron()

        def run(pair, options, *, scale, names=()):
            y = model(pair.left) * scale + options["shift"][0]
            return {"y": y, "more": [(y.sum(), None), 3, "text", Pair(y[0], names)], "x": pair.right}, ()

        return run, model

    calls = [
        (Pair(*batch(t, outputs=5)), {"shift": (batch(t)[1], None)}, Keywords(scale=scale, names=("a", t)))
        for t, scale in ((0, 1.5), (0, 1.5), (1, -0.0), (0, 0.0), (0, float("nan")), (0, float("nan")))
    ]
    assert_same_run(setup, calls, variants=4)
    zeros = [np.float64(0.0), np.float64(-0.0), np.float32(-0.0), np.float64("nan"), np.float64("nan")]
    assert_same_run(lambda: (lambda x, by: x * by,), [(fastbp.ones(1), by) for by in zeros], variants=4)


def test_arrays_become_tensors():
    setup = training_setup(perceptron, (optim.SGD, {"lr": 0.1}), F.cross_entropy)
    calls = [labelled(t) for t in range(3)]
    expected, _ = trace(setup, calls, lambda f: f, grads=False)
    got, compiled = trace(setup, [(x.numpy(), y.numpy()) for x, y in calls], fastbp.compile, grads=False)
    for a, b in zip(expected, got):
        assert_same([(name, value) for name, value in a if not name.startswith("arguments")], b)
    assert count_variants(compiled) == 1
    read_only = calls[0][0].numpy().copy()
    read_only.flags.writeable = False
    compiled(read_only, calls[0][1].numpy())
    assert count_variants(compiled) == 1


def test_arrays_become_tensors_also_where_no_program_is_run():
    x = fastbp.ones(3, requires_grad=True)
    x.grad = fastbp.ones(3)
    compiled = fastbp.compile(lambda x, a: (x * a.exp()).sum().backward())
    compiled(x, np.zeros(3, np.float32))
    assert x.grad.tolist() == [2, 2, 2]


def test_strided_arguments():
    def strided(t):
        x, y = batch(t, rows=10, inputs=16)
        return x.reshape(16, 10).t()[:, ::2][:, :5], y.t().contiguous().t()

    assert_same_run(with_sgd(), [strided(0), batch(1, rows=10), strided(2)], variants=1)
    arrays = [np.asfortranarray(t.numpy()) for t in batch(3, rows=10)]
    compiled = fastbp.compile(lambda x, y: x[:, :3] + y)
    np.testing.assert_array_equal(compiled(*arrays).numpy(), arrays[0][:, :3] + arrays[1])


def test_integer_and_bool_arguments():
    def setup():
        def run(x, rows, mask, counts):
            return x[rows], fastbp.where(mask, x, 0.0), counts.sum(), (counts + 1).to(fastbp.float32), x.argmax(1)

        return (run,)

    def arguments(t):
        rng = np.random.default_rng(t)
        ints = fastbp.tensor(rng.integers(-8, 8, 4)), fastbp.tensor(rng.integers(0, 2, (8, 5)) == 1)
        return batch(t)[0], *ints, fastbp.tensor(rng.integers(0, 9, (2, 3)))

    assert_same_run(setup, [arguments(t) for t in range(3)], variants=1)


def test_objects_among_the_arguments():
    """What cannot be hashed is known by what it is, all else by its value."""

    def setup():
        def run(x, options, how):
            return x * options["factor"] if how == "times" else x + len(options)

        return (run,)

    class Options(dict):
        pass

    options = Options(factor=3)
    calls = [(fastbp.ones(2), options, how) for how in ("times", "plus", "times")]
    assert_same_run(setup, calls, variants=2)


def test_a_number_argument_does_not_fill_memory():
    """Every value is a recording of its own; old ones go."""
    compiled = fastbp.compile(lambda x, number: x * number)
    for number in range(300):
        compiled(fastbp.ones(1), number)
    assert count_variants(compiled) <= 128


def test_unsupported_arguments():
    compiled = fastbp.compile(lambda x: x)
    with pytest.raises(TypeError, match="expected dtype float32, float64, int64, bool, got float16"):
        compiled(np.zeros(2, np.float16))
    with pytest.raises(TypeError, match="got <U1"):
        compiled(np.array(["a"]))
    for wrong in (3, "text"):
        with pytest.raises(TypeError, match=r"\[compile\] expected a function, got"):
            fastbp.compile(wrong)
    with pytest.raises(TypeError):
        compiled()
