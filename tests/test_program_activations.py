"""Activations, and their derivatives, become part of the layers before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recorded_programs import Recorded, normal, parameter

import fastbp
from fastbp.kernels import reference
from fastbp.nn import functional as F
from fastbp.ops import unary
from fastbp.program.calls import Call
from fastbp.program.passes.activation import fuse_activations

FUSED = [name for name in unary.KERNELS if name != "clamp"]


def fused(recorded: Recorded) -> list[Call]:
    calls = fuse_activations(recorded.calls, recorded.live)
    recorded.assert_same_bits(calls)
    return calls


@pytest.mark.parametrize("name", FUSED)
def test_an_activation_becomes_part_of_its_layer(name):
    w, b = parameter(2, 3), parameter(2)

    def function(x):
        return getattr(F, name)(F.linear(x, w, b))

    recorded = Recorded(function, normal(4, 3))
    (call,) = fused(recorded)
    assert call["activation"] == name and call["z"] is None
    constants = getattr(reference, f"{name}_forward").facts.constants
    assert call["constant"] == next((recorded.calls[-1][c] for c in constants), 0.0)


@pytest.mark.parametrize("name", FUSED)
def test_the_derivative_becomes_part_of_the_gradient_of_the_input(name):
    v, w = parameter(5, 3), parameter(2, 5, seed=8)

    def function(x):
        h = getattr(F, name)(F.linear(x, v))
        F.linear(h, w).backward(fastbp.ones(4, 2))
        gradient, v.grad, w.grad = v.grad, None, None
        return gradient

    recorded = Recorded(function, np.abs(normal(4, 3)))
    calls = fused(recorded)
    assert f"{name}_backward" in recorded.kernels()
    (call,) = [call for call in calls if call.kernel == "linear_backward_input"]
    assert call["activation"] == name
    assert f"{name}_backward" not in [call.kernel for call in calls]


@pytest.mark.parametrize("also", ["returned", "read", "read before", "backward"])
def test_what_the_layer_gives_is_kept_where_it_is_read(also):
    w = parameter(2, 3)

    def function(x):
        z = F.linear(x, w)
        first = z.sum() if also == "read before" else None
        y = F.gelu(z)
        if also == "backward":
            y.backward(fastbp.ones(4, 2))
            gradient, w.grad = w.grad, None
            return gradient
        return y, *([z] if also == "returned" else [first] if also == "read before" else [z.sum()])

    calls = fused(Recorded(function, normal(4, 3)))
    if also == "read before":
        assert "gelu_forward" in [call.kernel for call in calls]
    else:
        (call,) = [call for call in calls if call.kernel == "linear_forward"]
        assert call["activation"] == "gelu" and call["z"] is not None


@pytest.mark.parametrize("between", ["changed", "a part", "transposed", "softmax"])
def test_other_pairs_stay(between):
    w = parameter(4, 3)

    def function(x):
        z = F.linear(x, w.detach())
        if between == "changed":
            z.add_(1)
        if between == "a part":
            z = z[:2]
        if between == "transposed":
            z = z.t().contiguous()
        return F.softmax(z, 1) if between == "softmax" else F.tanh(z)

    recorded = Recorded(function, normal(4, 3))
    assert recorded.kernels(fused(recorded)) == recorded.kernels()


def by_hand(kind: str) -> Callable[..., Any]:
    """A product and an activation after it that must stay apart, or what lies between them would be others' bits."""
    w = parameter(3, 3).detach()

    def function(x):
        k = fastbp.kernels.host()
        z, y, h = (fastbp.empty(4, 3) for _ in range(3))
        results = [y, h]
        if kind.startswith("forward"):
            if kind == "forward, y in use":
                k.exp_forward(x.buffer, y.buffer)
            k.linear_forward(x.buffer, w.buffer, None, None, 0.0, None, z.buffer)
            if kind == "forward, y in use":
                k.sin_forward(y.buffer, h.buffer)
            elif kind == "forward, of a part":
                k.relu_forward(z.buffer.reshape((2, 6)), h.buffer.reshape((2, 6)))
            k.relu_forward(z.buffer, y.buffer)
        else:
            s = x * 1.5
            if kind == "backward, dx in use":
                k.exp_forward(x.buffer, y.buffer)
            k.linear_backward_input(x.buffer, w.buffer, None, 0.0, None, z.buffer)
            if kind == "backward, dx in use":
                k.sin_forward(y.buffer, h.buffer)
            elif kind == "backward, dy read":
                k.sin_forward(z.buffer, h.buffer)
            elif kind == "backward, s changed":
                s.add_(3)
            k.relu_backward(z.buffer, s.buffer, y.buffer)
            if kind == "backward, dy returned":
                results.append(z)
        return tuple(results) if "read" in kind or "in use" in kind else (y, *results[2:])

    return function


APART = "forward, y in use|backward, dx in use|backward, dy read|backward, dy returned|backward, s changed"


@pytest.mark.parametrize("kind", APART.split("|"))
def test_pairs_that_would_take_the_bits_of_others_stay_apart(kind):
    recorded = Recorded(by_hand(kind), normal(4, 3))
    assert recorded.kernels(fused(recorded)) == recorded.kernels()


def test_an_activation_of_another_shape_stays_apart():
    calls = fused(Recorded(by_hand("forward, of a part"), normal(4, 3)))
    assert next(call for call in calls if call.kernel == "linear_forward")["activation"] is None
