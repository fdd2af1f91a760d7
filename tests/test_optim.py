"""Optimizers: steps, groups, skipped parameters, state, bad options. Trajectories: test_against_torch.py."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import kernels, nn, optim

RULES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1}),
    "adam": (optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamw": (optim.AdamW, {"lr": 0.01}),
}
all_rules = pytest.mark.parametrize("rule", RULES)


def make(rule, params, **options):
    kind, own = RULES[rule]
    return kind(params, **{**own, **options})


def parameters(count=3, dtype=fastbp.float64):
    rng = np.random.default_rng(7)
    return [nn.Parameter(fastbp.tensor(rng.normal(size=(2, i + 1)), dtype=dtype)) for i in range(count)]


def give_gradients(params, t, skip=()):
    """Gradients of step t, the same in every run; none for the parameters in `skip`."""
    for i, p in enumerate(params):
        rng = np.random.default_rng(100 * t + i)
        p.grad = None if i in skip else fastbp.tensor(rng.normal(size=p.shape), dtype=p.dtype)


def train(optimizer, params, steps, skip=lambda t: ()):
    for t in steps:
        give_gradients(params, t, skip(t))
        optimizer.step()


def values(params):
    return [p.detach().numpy().copy() for p in params]


def assert_same_bits(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


# Steps


def test_sgd_by_hand():
    p = nn.Parameter(fastbp.tensor([1.0, 2.0], dtype=fastbp.float64))
    optimizer = optim.SGD([p], lr=0.1, momentum=0.5, weight_decay=0.1)
    p.grad = fastbp.tensor([1.0, -1.0], dtype=fastbp.float64)
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [1 - 0.1 * 1.1, 2 + 0.1 * 0.8], rtol=1e-15)
    optimizer.step()
    v = [0.5 * 1.1 + 1 + 0.1 * 0.89, 0.5 * -0.8 - 1 + 0.1 * 2.08]
    np.testing.assert_allclose(p.detach().numpy(), [0.89 - 0.1 * v[0], 2.08 - 0.1 * v[1]], rtol=1e-15)


def test_adam_moves_by_lr_in_its_first_step():
    p = nn.Parameter(fastbp.tensor([1.0, 1.0], dtype=fastbp.float64))
    p.grad = fastbp.tensor([1e-3, -1e3], dtype=fastbp.float64)
    optim.Adam([p], lr=0.25).step()
    np.testing.assert_allclose(p.detach().numpy(), [0.75, 1.25], rtol=1e-5)


@all_rules
def test_state_is_created_at_construction(rule):
    params = parameters()
    optimizer = make(rule, params)
    before = {(i, name): id(value.buffer) for i, p in enumerate(params) for name, value in optimizer.state[p].items()}
    train(optimizer, params, range(2))
    after = {(i, name): id(value.buffer) for i, p in enumerate(params) for name, value in optimizer.state[p].items()}
    assert after == before


@all_rules
def test_a_parameter_without_gradient_is_left_alone(rule):
    params = parameters()
    optimizer = make(rule, params)
    start = values(params)
    train(optimizer, params, range(3), skip=lambda t: (1,))
    assert np.array_equal(values(params)[1], start[1])
    assert not np.array_equal(values(params)[0], start[0])


@all_rules
def test_skipped_steps_do_not_count(rule):
    """A parameter that skips goes the way it would go alone, as if the skipped steps had not been."""
    params, alone = parameters(), parameters()
    train(make(rule, params), params, range(12), skip=lambda t: (1,) if t % 3 == 0 else ((0, 2) if t == 4 else ()))
    for i, p in enumerate(alone):
        optimizer = make(rule, [p])
        for t in range(12):
            if not ((i == 1 and t % 3 == 0) or (i != 1 and t == 4)):
                give_gradients(alone, t)
                optimizer.step()
    assert_same_bits(values(params), values(alone))


def test_step_without_any_gradient_changes_nothing():
    params = parameters()
    optimizer = optim.Adam(params)
    before = pickle.dumps(optimizer)
    optimizer.step()
    assert pickle.dumps(optimizer) == before


def test_one_kernel_call_for_each_group_and_dtype(monkeypatch):
    calls = []

    class Counting:
        def __init__(self, k):
            self.k = k

        def __getattr__(self, name):
            calls.append(name)
            return getattr(self.k, name)

    params = parameters(4)
    singles = parameters(2, fastbp.float32)
    optimizer = optim.Adam([{"params": params[:2] + singles}, {"params": params[2:]}])
    give_gradients(params + singles, 0)
    of = kernels.of
    monkeypatch.setattr(kernels, "of", lambda tensor: Counting(of(tensor)))
    optimizer.step()
    assert calls.count("adam_step") == 3


@all_rules
def test_float32_stays_near_float64(rule):
    single, double = parameters(dtype=fastbp.float32), parameters()
    train(make(rule, single), single, range(10))
    train(make(rule, double), double, range(10))
    for a, b in zip(values(single), values(double), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_options_are_read_anew_in_every_step():
    p = nn.Parameter(fastbp.tensor([0.0], dtype=fastbp.float64))
    optimizer = optim.SGD([p], lr=1.0)
    for lr in (1.0, 0.5, 0.25):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = fastbp.tensor([1.0], dtype=fastbp.float64)
        optimizer.step()
    assert p.item() == -1.75


def test_momentum_may_be_switched_on_later():
    params, other = parameters(1), parameters(1)
    late, early = optim.SGD(params, lr=0.1), optim.SGD(other, lr=0.1)
    train(late, params, range(2))
    train(early, other, range(2))
    late.param_groups[0]["momentum"] = 0.9
    train(late, params, range(2, 5))
    train(optim.SGD(other, lr=0.1, momentum=0.9), other, range(2, 5))
    assert_same_bits(values(params), values(other))


def test_strided_gradients_are_taken():
    p, q = nn.Parameter(fastbp.zeros(2, 3)), nn.Parameter(fastbp.zeros(2, 3))
    p.grad = fastbp.arange(6, dtype=fastbp.float32).reshape(3, 2).t()
    q.grad = p.grad.contiguous()
    optim.SGD([p, q], lr=1.0).step()
    assert_same_bits(values([p]), values([q]))


def test_closure_is_called_with_recording_and_its_value_returned():
    p = nn.Parameter(fastbp.tensor([3.0]))
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with fastbp.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert p.item() == 0.0


def test_zero_grad_drops_or_fills():
    p = nn.Parameter(fastbp.ones(2))
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = fastbp.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None


# Groups


def test_groups_take_defaults_for_what_they_leave_out():
    a, b = parameters(2)
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1, momentum=0.9)
    assert [(g["lr"], g["momentum"]) for g in optimizer.param_groups] == [(0.1, 0.9), (0.5, 0.9)]
    assert optimizer.param_groups[1]["params"] == [b]


def test_groups_train_each_with_its_options():
    params = [nn.Parameter(fastbp.zeros(1)) for _ in range(3)]
    optimizer = optim.SGD([{"params": params[:1]}, {"params": params[1:2], "lr": 2.0}], lr=1.0)
    optimizer.add_param_group({"params": params[2:], "lr": 3.0})
    for p in params:
        p.grad = fastbp.ones(1)
    optimizer.step()
    assert [p.item() for p in params] == [-1.0, -2.0, -3.0]


def test_repr_lists_groups():
    text = repr(optim.SGD(parameters(2), lr=0.1))
    assert text.startswith("SGD(\n  (0): lr=0.1, momentum=0.0") and text.endswith("2 tensors, 6 parameters\n)")


# Saving and loading


@all_rules
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
def test_a_run_continues_to_the_bit(rule, way):
    def skip(t):
        return (1,) if t == 2 else ()

    whole, stopped = parameters(), parameters()
    train(make(rule, whole), whole, range(12), skip)
    optimizer = make(rule, stopped)
    train(optimizer, stopped, range(6), skip)
    if way == "state_dict":
        resumed = [nn.Parameter(p.detach().clone()) for p in stopped]
        again = make(rule, resumed, lr=99.0)
        again.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    elif way == "pickle":
        resumed, again = pickle.loads(pickle.dumps((stopped, optimizer)))
    else:
        resumed, again = copy.deepcopy((stopped, optimizer))
    train(again, resumed, range(6, 12), skip)
    assert_same_bits(values(resumed), values(whole))


def test_changed_betas_survive_saving():
    whole, stopped = parameters(), parameters()
    a, b = optim.Adam(whole), optim.Adam(stopped)
    for optimizer, params in ((a, whole), (b, stopped)):
        train(optimizer, params, range(3))
        optimizer.param_groups[0]["betas"] = (0.8, 0.99)
        train(optimizer, params, range(3, 5))
    c = optim.Adam(stopped)
    c.load_state_dict(b.state_dict())
    train(a, whole, range(5, 9))
    train(c, stopped, range(5, 9))
    assert_same_bits(values(whole), values(stopped))


def test_state_dict_has_pytorchs_layout():
    params = parameters(2)
    optimizer = optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}])
    train(optimizer, params, range(4))
    state = optimizer.state_dict()
    assert list(state) == ["state", "param_groups"] and list(state["state"]) == [0, 1]
    assert state["state"][0]["step"] == 4 and state["state"][1]["exp_avg"].shape == (2, 2)
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert state["param_groups"][1]["lr"] == 0.5


def test_state_dict_loads_from_numpy():
    params, other = parameters(2), parameters(2)
    optimizer, again = optim.RMSprop(params), optim.RMSprop(other)
    train(optimizer, params, range(3))
    state = optimizer.state_dict()
    arrays = {i: {n: np.asarray(v) for n, v in entry.items()} for i, entry in state["state"].items()}
    again.load_state_dict({"state": arrays, "param_groups": state["param_groups"]})
    assert_same_bits(
        *([o.state[p]["square_avg"].numpy() for p in ps] for o, ps in ((optimizer, params), (again, other)))
    )


def broken_state(change):
    """A good Adam state after 2 steps, then changed."""
    params = parameters(2)
    optimizer = optim.Adam(params)
    train(optimizer, params, range(2))
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    return state


BROKEN = {
    "expected 1 parameter groups, got 2": lambda s: s["param_groups"].append(s["param_groups"][0]),
    "expected 2 parameters in group 0, got 1": lambda s: s["param_groups"][0]["params"].pop(),
    r"expected options \['lr'\] in group 0, got none": lambda s: s["param_groups"][0].pop("lr"),
    "expected lr >= 0 in group 0, got -1": lambda s: s["param_groups"][0].update(lr=-1),
    "expected maximize = False in group 0, got True": lambda s: s["param_groups"][0].update(maximize=True),
    "expected decoupled_weight_decay = False": lambda s: s["param_groups"][0].update(decoupled_weight_decay=True),
    r"state 'exp_avg' of parameter 1: expected shape \(2, 2\), got \(5,\)": lambda s: s["state"][1].update(
        exp_avg=np.ones(5)
    ),
    "state 'exp_avg' of parameter 0: expected a tensor or array": lambda s: s["state"][0].update(exp_avg="x"),
    r"expected state \['exp_avg_sq'\] of parameter 0 after 2 steps, got none": lambda s: s["state"][0].pop(
        "exp_avg_sq"
    ),
    "of parameter 1, got 'sum'": lambda s: s["state"][1].update(sum=np.ones((2, 2))),
    r"expected state of the listed parameters only, got parameters \[7\]": lambda s: s["state"].update({7: {}}),
    "expected a dict with 'state' and 'param_groups'": lambda s: s.clear(),
}


@pytest.mark.parametrize("message", BROKEN)
def test_loading_checks_everything_before_writing(message):
    params = parameters(2)
    optimizer = optim.Adam(params)
    train(optimizer, params, range(1))
    before = pickle.dumps(optimizer.state_dict())
    with pytest.raises(ValueError, match=rf"^\[load_state_dict\] Adam: .*{message}"):
        optimizer.load_state_dict(broken_state(BROKEN[message]))
    assert pickle.dumps(optimizer.state_dict()) == before


def test_all_problems_are_named_at_once():
    def change(state):
        state["param_groups"][0]["eps"] = -1
        state["state"][0]["exp_avg"] = np.ones(9)

    with pytest.raises(ValueError, match=r"expected eps >= 0 .*; state 'exp_avg'"):
        optim.Adam(parameters(2)).load_state_dict(broken_state(change))


# Bad options

BAD = {
    r"\[SGD\] expected lr >= 0 in group 0, got -1": lambda p: optim.SGD(p, lr=-1),
    r"\[SGD\] expected lr >= 0 in group 0, got nan": lambda p: optim.SGD(p, lr=float("nan")),
    r"\[SGD\] expected lr >= 0 in group 0, got '0.1'": lambda p: optim.SGD(p, lr="0.1"),
    r"\[SGD\] expected momentum >= 0": lambda p: optim.SGD(p, momentum=-0.5),
    r"\[SGD\] expected momentum > 0 and dampening = 0 for nesterov": lambda p: optim.SGD(p, nesterov=True),
    r"\[RMSprop\] expected alpha >= 0": lambda p: optim.RMSprop(p, alpha=-1),
    r"\[Adagrad\] expected lr_decay >= 0": lambda p: optim.Adagrad(p, lr_decay=-1),
    r"\[Adam\] expected betas to be two numbers in \[0, 1\), got \(1.0, 0.9\)": lambda p: optim.Adam(
        p, betas=(1.0, 0.9)
    ),
    r"\[Adam\] expected betas": lambda p: optim.Adam(p, betas=0.9),
    r"\[AdamW\] expected weight_decay >= 0": lambda p: optim.AdamW(p, weight_decay=-1),
    r"\[SGD\] expected options lr, .* in group 0, got 'momentun'": lambda p: optim.SGD(
        [{"params": p, "momentun": 0.9}]
    ),
    r"\[SGD\] expected parameters, got an empty list": lambda p: optim.SGD([]),
    r"\[SGD\] expected each parameter once, got parameter 2 of group 0": lambda p: optim.SGD([*p, p[0]]),
    r"got parameter 0 of group 1 a second time": lambda p: optim.SGD([{"params": p}, {"params": p[:1]}]),
    r"\[SGD\] expected parameter 0 of group 0 to be a leaf tensor": lambda p: optim.SGD([p[0] * 2]),
    r"to be float32 or float64, got fastbp.int64": lambda p: optim.SGD([fastbp.tensor([1, 2])]),
    r"expected parameter 0 of group 0 to be contiguous": lambda p: optim.SGD([nn.Parameter(fastbp.zeros(2, 3).t())]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_options_are_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](parameters(2))


def test_wrong_kinds_are_named():
    p = parameters(1)[0]
    with pytest.raises(TypeError, match=r"\[SGD\] expected an iterable of tensors or of groups, got a Parameter"):
        optim.SGD(p)
    with pytest.raises(TypeError, match=r"\[SGD\] expected the parameters of group 0 in an order, got a set"):
        optim.SGD([{"params": {p}}])
    with pytest.raises(TypeError, match=r"\[SGD\] expected parameter 0 of group 0 to be a tensor, got float"):
        optim.SGD([0.5])
    with pytest.raises(
        TypeError, match=r"\[SGD\] expected group 0 to be a dict with 'params', got a dict with \['lr'\]"
    ):
        optim.SGD([{"lr": 0.5}])
