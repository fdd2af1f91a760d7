"""Indices in compiled functions: given, computed within bounds, and refused."""

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F


@pytest.fixture
def x():
    return fastbp.tensor(np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32))


@pytest.fixture
def index():
    return fastbp.tensor(np.array([0, 4, -5, 2, -1, 0]))


BOUNDED = {
    "gather by an argument": lambda x, i: x.gather(1, i.unsqueeze(1)),
    "a view": lambda x, i: x[i.reshape(2, 3)[:, 1:]],
    "a strided view": lambda x, i: x.t()[i[::2]],
    "a transposed view": lambda x, i: x[i.reshape(2, 3).t()],
    "a copy": lambda x, i: x[i.clone()],
    "two index arrays": lambda x, i: x[fastbp.arange(6), i],
    "argmax": lambda x, i: x.gather(1, x.argmax(1).unsqueeze(1)),
    "max": lambda x, i: x.max(1)[0],
    "labels of argmax": lambda x, i: F.nll_loss(x, x.argmax(1), sample_weight=x[:, 0].abs()),
    "a copy of argmax": lambda x, i: x[:, x.argmax(1).clone()[:2]],
    "arithmetic": lambda x, i: x[x.argmax(1) - x.argmin(1) + fastbp.arange(6) * 0],
    "filled": lambda x, i: x[fastbp.full((3,), -6, dtype=fastbp.int64)],
    "a step of -1": lambda x, i: x[fastbp.arange(5, -1, -1)],
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_indices_give_what_eager_execution_gives(name, x, index):
    function = BOUNDED[name]
    compiled = fastbp.compile(function)
    expected = function(x, index).numpy()
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x, index).numpy(), expected)


def overwrite(x):
    i = x.argmax(1)
    i[0] = 100
    return x[i]


def increase(x):
    i = x.argmax(1)
    i += 1
    return x.gather(1, i.unsqueeze(1))


MEMORY = np.zeros(3, np.int64)
ONE, OTHER = fastbp.from_numpy(MEMORY), fastbp.from_numpy(MEMORY)


def through_another_name(x):
    ONE.fill_(0)
    OTHER.fill_(10**6)
    return x[ONE]


PART = fastbp.from_numpy(MEMORY[1:])


def through_a_part(x):
    PART.fill_(10**6)
    return x[ONE]


def a_view_through_a_part(x):
    PART.fill_(10**6)
    return x[ONE[::2]]


UNBOUNDED = {
    "a part written to by another name": through_a_part,
    "a view of which a part is written to by another name": a_view_through_a_part,
    "written to by another name": through_another_name,
    "an overwritten argmax": overwrite,
    "an increased argmax": increase,
    "one too large": lambda x: x[fastbp.arange(7)],
    "one too small": lambda x: x[fastbp.arange(6) - 7],
    "past int64": lambda x: x[(fastbp.arange(6) + 2**62) * 4],
    "a difference": lambda x: x[x.argmin(1) - x.argmax(1) - 3],
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_indices_that_might_leave_the_tensor_are_refused(name, x):
    with pytest.raises(fastbp.CompileError, match="the values of indices"):
        fastbp.compile(UNBOUNDED[name])(x)


@pytest.mark.parametrize(("count", "fits"), [(100, True), (5000, False)])
def test_long_chains_of_arithmetic_are_followed_once_and_not_too_far(count, fits, x):
    def run(x):
        i = x.argmax(1) * 0
        for _ in range(count):
            i = i + i
        return x[i]

    if fits:
        np.testing.assert_array_equal(fastbp.compile(run)(x).numpy(), run(x).numpy())
    else:
        with pytest.raises(fastbp.CompileError, match="the values of indices"):
            fastbp.compile(run)(x)


def test_an_argument_out_of_range_is_an_error_before_anything_runs(x, index):
    model = nn.Linear(5, 5)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @fastbp.compile
    def step(x, i):
        optimizer.zero_grad()
        loss = model(x).gather(1, i.unsqueeze(1)).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(x, index)
    before = model.weight.detach().numpy().copy()
    with pytest.raises(IndexError, match="expected indices from -5 to 4, got 5"):
        step(x, fastbp.tensor(np.array([0, 1, 2, 3, 4, 5])))
    np.testing.assert_array_equal(model.weight.detach().numpy(), before)


def test_columns_of_an_argument_are_checked_where_they_are_used():
    """As tables of categories have them."""
    table = fastbp.tensor(np.arange(20, dtype=np.float32).reshape(10, 2))
    rows = fastbp.tensor(np.random.default_rng(0).integers(0, 10, (8, 4)))

    def step(r):
        return (table[r[:, 1]] * table[r[:, 2]]).sum()

    compiled = fastbp.compile(step)
    expected = [step(rows[i : i + 2]).item() for i in range(0, 8, 2)]
    assert compiled.run_epoch([rows], 2).tolist() == expected
    rows[5, 3] = 10
    assert compiled.run_epoch([rows], 2).tolist() == expected
    rows[5, 1] = -11
    with pytest.raises(IndexError, match="expected indices from -10 to 9, got -11"):
        compiled(rows)
    with pytest.raises(IndexError, match="expected indices from -10 to 9, got -11"):
        compiled.run_epoch([rows], 2)


def test_an_index_that_the_function_counts_up_is_checked_before_every_step():
    w, place = fastbp.arange(5.0), fastbp.tensor(np.array([0]))

    @fastbp.compile
    def step(x):
        value = w[place].sum() + x.sum()
        place.add_(1)
        return value

    with pytest.raises(IndexError, match="expected indices from -5 to 4, got 5"):
        step.run_epoch([fastbp.zeros(12)], 1)
    assert place.tolist() == [5]
    place.fill_(0)
    assert step.run_epoch([fastbp.zeros(5)], 1).tolist() == [0, 1, 2, 3, 4]


def test_q_learning_steps_give_the_same_weights(x, index):
    """The usual target: reward + discount · the largest of the next state's values, for the actions taken."""
    generator = np.random.default_rng(1)
    states, following = (generator.standard_normal((16, 4)).astype(np.float32) for _ in range(2))
    actions, rewards = generator.integers(0, 3, (16, 1)), generator.standard_normal((16, 1)).astype(np.float32)

    def train(wrap):
        fastbp.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
        optimizer = optim.Adam(model.parameters(), lr=1e-2)

        def step(states, actions, rewards, following):
            with fastbp.no_grad():
                target = rewards + 0.9 * model(following).max(1, keepdim=True)[0]
            optimizer.zero_grad()
            loss = F.mse_loss(model(states).gather(1, actions), target)
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        losses = [run(*map(fastbp.tensor, (states, actions, rewards, following))).item() for _ in range(30)]
        return losses, [p.detach().numpy().copy() for p in model.parameters()]

    eager, compiled = train(lambda step: step), train(fastbp.compile)
    assert eager[0] == compiled[0]
    for a, b in zip(eager[1], compiled[1]):
        np.testing.assert_array_equal(a, b)
