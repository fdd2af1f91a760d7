"""Calls whose results nobody reads are dropped from a program."""

from __future__ import annotations

from recorded_programs import Recorded, normal, parameter

import fastbp
from fastbp import optim
from fastbp.nn import functional as F
from fastbp.program.passes.dead import drop_dead


def dead(recorded: Recorded) -> list[str]:
    calls = drop_dead(recorded.calls, recorded.live)
    recorded.assert_same_bits(calls)
    return recorded.kernels(calls)


def test_results_that_nobody_reads_are_not_computed():
    def function(x):
        x.exp().sin()  # neither is read
        return x.cos()

    assert dead(Recorded(function, normal(3))) == ["cos_forward"]


def test_what_a_result_is_made_of_stays():
    assert dead(Recorded(lambda x: (x.exp() * 2).sin(), normal(3))) == ["exp_forward", "mul", "sin_forward"]


def test_memory_from_outside_is_always_written():
    table = fastbp.zeros(3)

    def function(x):
        table.copy_(x.exp())
        return x + 1

    assert dead(Recorded(function, normal(3), changes=[table])) == ["exp_forward", "copy", "add"]


def test_a_written_argument_stays():
    assert dead(Recorded(lambda x: (x.add_(1), x)[1:], normal(3))) == ["add", "copy"]


def test_parts_of_memory_are_told_apart():
    def function(x):
        y = fastbp.zeros(4)
        y[:2] = x[:2]
        y[2:] = x[2:]
        z = fastbp.zeros(4)
        z[:2] = x[2:].exp()  # of a part that is not read
        z[2:] = x[:2]
        return y + 1, z[2:] + 1

    kernels = dead(Recorded(function, normal(4)))
    assert "exp_forward" not in kernels and kernels.count("copy") == 3


def test_a_gradient_that_is_not_kept_needs_its_step_only():
    w = parameter(2, 3)
    optimizer = optim.SGD([w], lr=0.1)

    def function(x):
        optimizer.zero_grad()
        y = F.linear(x, w)
        y.sum().backward()
        optimizer.step()
        w.grad.abs()
        return y

    recorded = Recorded(function, normal(4, 3), changes=[w, *(c.hyper for c in optimizer._cohorts)])
    assert "abs_forward" in recorded.kernels() and "sgd_step" in dead(recorded)
    assert "abs_forward" not in dead(recorded)
