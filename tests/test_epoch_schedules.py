"""Schedules in an epoch are stepped for each batch, and not further than the steps that are taken."""

from __future__ import annotations

import pytest
from compiled_runs import all_state, assert_same, perceptron, training_step
from epoch_runs import SCHEDULES, arrays, assert_equal_epochs, by_hand, scheduled, shuffled
from settings import numbers_of_threads

import fastbp
from fastbp import optim
from fastbp.optim import lr_scheduler

threads = numbers_of_threads(1, 2, 3)


# One cycle changes a momentum, which must not be 0.
PAIRS = [
    (name, rule)
    for name in SCHEDULES
    for rule in ("sgd", "nesterov", "adam", "rmsprop centered")
    if name != "one cycle" or rule in ("nesterov", "adam")
]


@pytest.mark.parametrize(("name", "rule"), PAIRS)
def test_schedules_are_stepped_for_each_batch(name, rule):
    assert_equal_epochs(scheduled(SCHEDULES[name], rule), arrays(), 5, permutation=shuffled(), count=3)


def test_two_optimizers_with_their_schedules(threads):
    def setup():
        first, second = perceptron(), perceptron()
        rules = optim.SGD(first.parameters(), lr=0.1, momentum=0.9), optim.Adam(second.parameters(), lr=0.01)
        schedules = lr_scheduler.StepLR(rules[0], 2), lr_scheduler.ExponentialLR(rules[1], 0.8)
        steps = training_step(first, rules[0]), training_step(second, rules[1])

        def step(x, y):
            results = [run(x, y) for run in steps]
            for schedule in schedules:
                schedule.step()
            return results

        return step, first, second, *rules, *schedules

    assert_equal_epochs(setup, arrays(), 5, count=3)


@pytest.mark.parametrize("kind", ["ends", "raises"])
def test_a_schedule_that_raises_does_so_after_its_step(kind):
    """Schedules are stepped in advance: not further than the steps that are taken."""

    def schedule(optimizer):
        if kind == "raises":
            return lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (7 - t))  # of the seventh step there is none
        return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=7, cycle_momentum=False)

    setup, data = scheduled(schedule, lr=0.1), arrays()
    seen = []
    for run in (by_hand, lambda step, *given: fastbp.compile(step).run_epoch(*given)):
        fastbp.manual_seed(5)
        step, *state = setup()
        with pytest.raises((ZeroDivisionError, ValueError)) as caught:
            run(step, data, 5)
        seen.append([("message", str(caught.value)), *all_state(state, False)])
    assert_same(*seen)
