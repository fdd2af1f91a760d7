"""Steps of an optimizer over many tensors become one of each."""

from __future__ import annotations

import pytest
from recorded_programs import Recorded, normal, parameter

import fastbp
from fastbp import nn, optim
from fastbp.program.passes.optimizer import split_steps


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optim.SGD, {}),
        (optim.SGD, {"momentum": 0.9}),
        (optim.Adam, {}),
        (optim.AdamW, {"amsgrad": True}),
        (optim.RMSprop, {"centered": True, "momentum": 0.9}),
        (optim.Adagrad, {}),
    ],
)
def test_a_step_of_many_tensors_becomes_one_of_each(kind, options):
    params = [parameter(2, 3), parameter(4, seed=8), parameter(1, seed=9)]
    optimizer = kind(params, lr=0.1, **options)

    def function(*gradients):
        for p, g in zip(params, gradients):
            p.grad = g * 1
        optimizer.step()
        for p in params:
            p.grad = None
        return gradients[0]

    state = [t for p in params for t in optimizer.state[p].values()]
    changes = [*params, *state, *(c.hyper for c in optimizer._cohorts)]
    recorded = Recorded(function, normal(2, 3), normal(4), normal(1), changes=changes)
    calls = split_steps(recorded.calls)
    recorded.assert_same_bits(calls)
    steps = [call for call in calls if call.kernel.endswith("_step")]
    assert len(steps) == 3 and len(calls) == len(recorded.calls) + 2
    assert [step["params"][0].shape for step in steps] == [(2, 3), (4,), (1,)]
    assert split_steps(calls) == calls


def test_calls_on_lists_that_are_one_whole_stay():
    w = [parameter(2, 3), parameter(4, seed=8)]

    def function(a, b):
        w[0].grad, w[1].grad = a * 1, b * 1
        norm = nn.utils.clip_grad_norm_(w, 0.1)
        joined = fastbp.cat([a, a], dim=0)
        gradients = w[0].grad, w[1].grad
        w[0].grad = w[1].grad = None
        return norm, joined, *gradients

    recorded = Recorded(function, normal(2, 3), normal(4))
    calls = split_steps(recorded.calls)
    recorded.assert_same_bits(calls)
    kernels = [call.kernel for call in calls]
    assert kernels.count("gradient_norm") == kernels.count("concatenate") == 1
    assert kernels.count("scale_gradients") == 2
