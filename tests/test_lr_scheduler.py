"""Learning-rate schedules: their closed forms, PyTorch's sequences, state, bad options."""

from __future__ import annotations

import math
import pickle

import pytest

import fastbp
from fastbp import nn, optim
from fastbp.optim import lr_scheduler

STEPS = 40


def sgd(lr=0.1, **options):
    return optim.SGD([nn.Parameter(fastbp.zeros(2))], lr=lr, **options)


def sequence(schedule, steps=STEPS):
    """Learning rate of the first group at t = 0, 1, … steps."""
    lrs = schedule.get_last_lr()[:1]
    for _ in range(steps):
        schedule.step()
        lrs += schedule.get_last_lr()[:1]
    return lrs


# Closed forms


def test_step_decays_every_step_size():
    assert sequence(lr_scheduler.StepLR(sgd(), 7, gamma=0.5)) == pytest.approx(
        [0.1 * 0.5 ** (t // 7) for t in range(STEPS + 1)]
    )


def test_exponential_decays_every_step():
    assert sequence(lr_scheduler.ExponentialLR(sgd(), 0.9)) == pytest.approx([0.1 * 0.9**t for t in range(STEPS + 1)])


def test_linear_goes_from_start_factor_to_end_factor():
    lrs = sequence(lr_scheduler.LinearLR(sgd(), start_factor=0.25, end_factor=0.75, total_iters=10))
    assert lrs == pytest.approx([0.1 * (0.25 + 0.5 * min(t, 10) / 10) for t in range(STEPS + 1)])


def test_cosine_goes_down_and_up_again():
    lrs = sequence(lr_scheduler.CosineAnnealingLR(sgd(), T_max=10, eta_min=0.01))
    assert lrs == pytest.approx([0.01 + 0.09 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(STEPS + 1)])


def test_lambda_multiplies_the_initial_lr():
    assert sequence(lr_scheduler.LambdaLR(sgd(), lambda t: 1 / (1 + t))) == pytest.approx(
        [0.1 / (1 + t) for t in range(STEPS + 1)]
    )


def test_one_cycle_peaks_at_max_lr_with_the_lowest_momentum():
    optimizer = sgd(momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=20, pct_start=0.25)
    group = optimizer.param_groups[0]
    seen = [(group["lr"], group["momentum"])]
    for _ in range(19):
        schedule.step()
        seen.append((group["lr"], group["momentum"]))
    assert seen[0] == pytest.approx((1 / 25, 0.95))
    assert seen[4] == pytest.approx((1.0, 0.85))  # the rise ends at pct_start · total_steps − 1
    assert seen[-1] == pytest.approx((1 / 25 / 1e4, 0.95))
    schedule.step()
    with pytest.raises(ValueError, match=r"\[OneCycleLR\] expected at most 20 steps, got step 21"):
        schedule.step()


def test_one_cycle_with_a_rise_of_no_length_starts_at_the_top():
    assert sequence(lr_scheduler.OneCycleLR(sgd(momentum=0.9), 1.0, total_steps=10, pct_start=0.1), 0) == [1.0]


def test_plateau_reduces_after_patience_and_rests_for_cooldown():
    optimizer = sgd(lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, cooldown=1, min_lr=0.2)
    lrs = []
    for metric in [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]:
        schedule.step(metric)
        lrs += schedule.get_last_lr()
    assert lrs == [1.0] * 4 + [0.5] * 4 + [0.25] * 4 + [0.2]


def test_plateau_counts_nan_as_no_improvement():
    optimizer = sgd(lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    schedule.step(fastbp.tensor(math.nan))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_schedules_compose_and_keep_a_change_by_hand():
    optimizer = sgd(lr=1.0)
    first, second = (lr_scheduler.ExponentialLR(optimizer, 0.5), lr_scheduler.StepLR(optimizer, 1, 0.1))
    first.step()
    second.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    optimizer.param_groups[0]["lr"] = 8.0
    first.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(4.0)


# PyTorch's sequences

SCHEDULES = {
    "step": lambda m, o: m.StepLR(o, 3, 0.7),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.93),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 11, eta_min=1e-3),
    "cosine of one": lambda m, o: m.CosineAnnealingLR(o, 1),
    "linear": lambda m, o: m.LinearLR(o, 0.2, 0.9, 8),
    "linear default": lambda m, o: m.LinearLR(o),
    "lambda": lambda m, o: m.LambdaLR(o, lambda t: 0.95**t),
    "lambda per group": lambda m, o: m.LambdaLR(o, [lambda t: 0.95**t, lambda t: 1 / (t + 1)]),
    "one cycle": lambda m, o: m.OneCycleLR(o, max_lr=0.5, total_steps=STEPS + 1),
    "one cycle linear": lambda m, o: m.OneCycleLR(
        o,
        max_lr=[0.5, 0.2],
        epochs=6,
        steps_per_epoch=7,
        anneal_strategy="linear",
        pct_start=0.4,
        max_momentum=[0.9, 0.8],
    ),
    "one cycle in three": lambda m, o: m.OneCycleLR(
        o, max_lr=0.5, total_steps=STEPS + 1, three_phase=True, div_factor=10
    ),
    "one cycle lr only": lambda m, o: m.OneCycleLR(o, max_lr=0.5, total_steps=STEPS + 1, cycle_momentum=False),
}


def pairs(torch, name="SGD", **options):
    """The same optimizer of two groups from fastbp and from PyTorch."""
    ours = [{"params": [nn.Parameter(fastbp.zeros(2))]}, {"params": [nn.Parameter(fastbp.zeros(2))], "lr": 0.03}]
    theirs = [
        {"params": [torch.nn.Parameter(torch.zeros(2))]},
        {"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 0.03},
    ]
    return getattr(optim, name)(ours, lr=0.1, **options), getattr(torch.optim, name)(theirs, lr=0.1, **options)


def live(optimizer):
    """What schedules change, of all groups."""
    groups = optimizer.param_groups
    return [value for g in groups for value in (g["lr"], g.get("momentum", 0.0), *g.get("betas", ()))]


@pytest.mark.parametrize("kind", [("SGD", {"momentum": 0.5}), ("Adam", {})], ids=["momentum", "betas"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sequence_equals_pytorch(schedule, kind):
    torch = pytest.importorskip("torch")
    ours, theirs = pairs(torch, kind[0], **kind[1])
    mine, reference = (SCHEDULES[schedule](lr_scheduler, ours), SCHEDULES[schedule](torch.optim.lr_scheduler, theirs))
    for _ in range(STEPS):
        assert live(ours) == pytest.approx(live(theirs), rel=1e-12)
        assert mine.get_last_lr() == pytest.approx(reference.get_last_lr(), rel=1e-12)
        theirs.step()
        mine.step()
        reference.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau_equals_pytorch(mode, threshold_mode):
    torch = pytest.importorskip("torch")
    ours, theirs = pairs(torch)
    options = {"mode": mode, "threshold_mode": threshold_mode, "threshold": 0.02, "factor": 0.6}
    options |= {"patience": 2, "cooldown": 1, "min_lr": [1e-3, 1e-2]}
    mine = lr_scheduler.ReduceLROnPlateau(ours, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for t in range(STEPS):
        metric = math.sin(0.7 * t) + (0.03 * t if mode == "max" else -0.03 * t)
        mine.step(metric)
        reference.step(metric)
        assert mine.get_last_lr() == pytest.approx(reference.get_last_lr(), rel=1e-12)


# State


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_state_continues_the_sequence(schedule):
    torch_free = {"momentum": 0.9}
    whole, stopped, resumed = (
        optim.SGD([{"params": [nn.Parameter(fastbp.zeros(2))]} for _ in range(2)], lr=0.1, **torch_free)
        for _ in range(3)
    )
    a, b = (SCHEDULES[schedule](lr_scheduler, whole), SCHEDULES[schedule](lr_scheduler, stopped))
    for _ in range(13):
        a.step()
        b.step()
    c = SCHEDULES[schedule](lr_scheduler, resumed)
    resumed.load_state_dict(stopped.state_dict())
    c.load_state_dict(pickle.loads(pickle.dumps(b.state_dict())))
    for _ in range(13):
        a.step()
        c.step()
        assert c.get_last_lr() == a.get_last_lr()
        assert live(resumed) == live(whole)


def test_plateau_state_continues():
    first, second = sgd(lr=1.0), sgd(lr=1.0)
    a = lr_scheduler.ReduceLROnPlateau(first, patience=3)
    b = lr_scheduler.ReduceLROnPlateau(second, patience=3)
    for _ in range(3):
        a.step(1.0)
    b.load_state_dict(a.state_dict())
    for _ in range(2):
        b.step(1.0)
    assert second.param_groups[0]["lr"] == pytest.approx(0.1)


def test_objects_given_to_lambda_keep_their_attributes():
    class Warmup:
        def __init__(self, steps):
            self.steps = steps

        def __call__(self, t):
            return min(1.0, (t + 1) / self.steps)

    a, b = (lr_scheduler.LambdaLR(sgd(), Warmup(4)), lr_scheduler.LambdaLR(sgd(), Warmup(9)))
    b.load_state_dict(a.state_dict())
    assert b.lr_lambdas[0].steps == 4


def test_continues_from_last_epoch():
    optimizer = sgd()
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer, 3, last_epoch=5)
    optimizer.param_groups[0]["initial_lr"] = 0.1
    assert sequence(lr_scheduler.CosineAnnealingLR(optimizer, 10, last_epoch=4), 5)[0] == pytest.approx(0.05)


def test_state_of_another_schedule_is_refused():
    state = lr_scheduler.StepLR(sgd(), 3).state_dict()
    with pytest.raises(ValueError, match=r"\[ExponentialLR\] expected the state of the same schedule"):
        lr_scheduler.ExponentialLR(sgd(), 0.9).load_state_dict(state)


# Bad options

BAD = {
    r"\[StepLR\] expected step_size to be an int above 0, got 0": lambda o: lr_scheduler.StepLR(o, 0),
    r"\[CosineAnnealingLR\] expected T_max to be an int above 0, got 1.5": lambda o: lr_scheduler.CosineAnnealingLR(
        o, 1.5
    ),
    r"\[LinearLR\] expected start_factor": lambda o: lr_scheduler.LinearLR(o, start_factor=0),
    r"\[LinearLR\] expected end_factor": lambda o: lr_scheduler.LinearLR(o, end_factor=2),
    r"\[OneCycleLR\] expected epochs": lambda o: lr_scheduler.OneCycleLR(o, 1.0),
    r"\[OneCycleLR\] expected pct_start": lambda o: lr_scheduler.OneCycleLR(o, 1.0, 10, pct_start=2.0),
    r"\[OneCycleLR\] expected anneal_strategy": lambda o: lr_scheduler.OneCycleLR(o, 1.0, 10, anneal_strategy="square"),
    r"\[OneCycleLR\] expected 1 values of max_lr": lambda o: lr_scheduler.OneCycleLR(o, [1.0, 2.0], 10),
    r"\[LambdaLR\] expected 1 functions": lambda o: lr_scheduler.LambdaLR(o, [abs, abs]),
    r"\[ReduceLROnPlateau\] expected factor to be below 1": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0),
    r"\[ReduceLROnPlateau\] expected mode": lambda o: lr_scheduler.ReduceLROnPlateau(o, "least"),
    r"\[ReduceLROnPlateau\] expected threshold_mode": lambda o: lr_scheduler.ReduceLROnPlateau(o, threshold_mode="log"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_options_are_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](sgd(momentum=0.9))


def test_an_optimizer_without_momentum_cannot_cycle_it():
    with pytest.raises(ValueError, match="cycle momentum"):
        lr_scheduler.OneCycleLR(optim.Adagrad([nn.Parameter(fastbp.zeros(2))]), 1.0, 10)


def test_needs_an_optimizer():
    with pytest.raises(TypeError, match=r"\[StepLR\] expected an Optimizer, got list"):
        lr_scheduler.StepLR([], 3)
