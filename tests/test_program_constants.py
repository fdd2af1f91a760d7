"""Constants of a program, which are written once, and products with one, which are dropped."""

from __future__ import annotations

import pytest
from recorded_programs import Recorded, normal, parameter

import fastbp
from fastbp.nn import functional as F
from fastbp.program.calls import Call
from fastbp.program.passes.constants import drop_products_with_one, split_constants

# --- constants --------------------------------------------------------------------------------------------------------


def constants_of(recorded: Recorded) -> tuple[list[Call], list[Call]]:
    constants, calls = split_constants(recorded.calls, recorded.live)
    recorded.assert_same_bits([*constants, *calls])
    assert sorted(map(id, [*constants, *calls])) == sorted(map(id, recorded.calls))
    return constants, calls


def test_fills_of_memory_that_is_only_read_are_constants():
    constants, calls = constants_of(Recorded(lambda x: x * fastbp.full((3,), 2.0) + fastbp.ones(3), normal(3)))
    assert [call["value"] for call in constants] == [2.0, 1.0]
    assert [call.kernel for call in calls] == ["mul", "add"]


@pytest.mark.parametrize("kind", ["returned", "written again", "read before", "from outside", "a part"])
def test_other_fills_are_not_constants(kind):
    table = fastbp.zeros(3)

    def function(x):
        if kind == "read before":
            y = fastbp.empty(3)
            x = x + y
            y.fill_(1)
        elif kind == "from outside":
            y = table.fill_(2)
        else:
            y = fastbp.ones(3)
        if kind == "written again":
            y.add_(x)
        elif kind == "a part":
            y[1:] = x[1:]
        return y if kind == "returned" else x * y

    recorded = Recorded(function, normal(3), changes=[table])
    assert split_constants(recorded.calls, recorded.live)[0] == []


# --- products with one ------------------------------------------------------------------------------------------------


def without_ones(recorded: Recorded) -> list[Call]:
    constants, calls = split_constants(recorded.calls, recorded.live)
    calls = drop_products_with_one(calls, constants, recorded.live)
    recorded.assert_same_bits([*constants, *calls])
    return calls


@pytest.mark.parametrize("one_first", [False, True])
def test_a_product_with_one_is_its_other_factor(one_first):
    def function(x):
        h, one = x.exp(), fastbp.ones(())
        return (one * h if one_first else h * one).sin()

    assert [call.kernel for call in without_ones(Recorded(function, normal(3)))] == ["exp_forward", "sin_forward"]


def test_readers_of_a_view_of_the_product_read_that_of_the_factor():
    def function(x):
        y = x.exp() * fastbp.ones(3)
        return y[1:, ::2].t().contiguous(), (y * fastbp.ones(())).reshape(6)[2:5].sin()

    calls = without_ones(Recorded(function, normal(2, 3)))
    assert [call.kernel for call in calls] == ["exp_forward", "copy", "sin_forward"]


@pytest.mark.parametrize(
    "kind",
    [
        "two",
        "returned",
        "grows",
        "other type",
        "factor changes",
        "factor changes later",
        "product changes",
        "not all one",
    ],
)
def test_other_products_stay(kind):
    def function(x):
        h = x.exp()
        one = fastbp.full((), 2.0) if kind == "two" else fastbp.ones(())
        if kind == "grows":
            one = fastbp.ones(4, 3)
        if kind == "not all one":
            one = fastbp.ones(4)
            one[1] = 3.0
            h = x.sum()
        y = h * one.to(fastbp.float64) if kind == "other type" else h * one
        if kind == "returned":
            return y, h
        z = y.sin() if kind == "factor changes later" else None
        if kind.startswith("factor changes"):
            h.add_(1)
        if kind == "product changes":
            y.add_(1)
        return y.cos(), h.sin(), *([] if z is None else [z])

    assert "mul" in [call.kernel for call in without_ones(Recorded(function, normal(3)))]


def test_the_gradient_of_a_loss_is_not_multiplied():
    w = parameter(2, 3)

    def function(x, t):
        loss = F.mse_loss(F.linear(x, w), t)
        loss.backward()
        gradient, w.grad = w.grad, None
        return loss, gradient

    recorded = Recorded(function, normal(4, 3), normal(4, 2))
    assert "mul" in recorded.kernels()
    assert "mul" not in [call.kernel for call in without_ones(recorded)]
