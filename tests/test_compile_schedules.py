"""Schedules inside and outside of compiled steps, and those that are refused."""

from __future__ import annotations

import pytest
from compiled_runs import BATCHES, RULES, all_state, assert_same, assert_same_run, perceptron, training_step

import fastbp
from fastbp import optim
from fastbp.optim import lr_scheduler

SCHEDULES = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "linear": lambda o: lr_scheduler.LinearLR(o, total_iters=3),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
}


@pytest.mark.parametrize("where", ["before", "after", "outside"])
@pytest.mark.parametrize("rule", ["dampening", "adamw"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule, rule, where):
    kind, options = RULES[rule]

    def setup():
        model = perceptron()
        optimizer = kind(model.parameters(), **options)
        scheduler = SCHEDULES[schedule](optimizer)

        def step(x, y):
            if where == "before":
                scheduler.step()
            loss = training_step(model, optimizer)(x, y)
            if where == "after":
                scheduler.step()
            return loss

        return step, model, optimizer, scheduler

    def outside(t, model, optimizer, scheduler):
        if where == "outside":
            scheduler.step()

    assert_same_run(setup, [*BATCHES, *BATCHES], outside, variants=1)


def test_plateau_is_stepped_outside():
    def setup():
        model = perceptron()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return training_step(model, optimizer), model, optimizer, lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)

    assert_same_run(setup, [*BATCHES, *BATCHES], lambda t, m, o, plateau: plateau.step(1.0), variants=1)


def test_a_schedule_on_a_metric_is_refused():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    with pytest.raises(fastbp.CompileError, match="a metric on the host; return the metric"):
        fastbp.compile(lambda: plateau.step(1.0))()
    assert plateau.last_epoch == 0


def test_a_schedule_between_two_steps_is_refused():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    step = training_step(model, optimizer)

    def twice(x, y):
        step(x, y)
        schedule.step()
        step(x, y)

    before = all_state((model, optimizer, schedule))
    with pytest.raises(fastbp.CompileError, match="a schedule's step between two steps"):
        fastbp.compile(twice)(*BATCHES[0])
    assert_same(before, all_state((model, optimizer, schedule)))


def test_a_schedule_that_has_ended_changes_nothing():
    model = perceptron()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2)

    def step(x, y):
        schedule.step()
        return training_step(model, optimizer)(x, y)

    compiled = fastbp.compile(step)
    compiled(*BATCHES[0])
    compiled(*BATCHES[0])
    before = all_state((model, optimizer, schedule))
    with pytest.raises(ValueError, match="expected at most 2 steps"):
        compiled(*BATCHES[0])
    assert_same(before, all_state((model, optimizer, schedule)))
