"""Panels in programs: which products get them, when they are packed, and never those of older values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from compiled_runs import assert_same, batch, trace, training_step
from recorded_programs import Recorded, normal, overlap, parameter
from settings import numbers_of_threads

import fastbp
from fastbp import _native, nn, optim
from fastbp.nn import functional as F
from fastbp.program.calls import Call
from fastbp.program.passes import panels
from fastbp.program.passes.constants import drop_products_with_one, split_constants
from fastbp.program.passes.optimizer import split_steps
from fastbp.program.passes.panels import Pack, Panelled, add_panels

threads = numbers_of_threads(1, 2, 3, 8)


def panelled(function: Callable[..., Any], *given: Any) -> Panelled:
    recorded = Recorded(function, *given)
    constants, calls = split_constants(recorded.calls, recorded.live)
    calls = split_steps(drop_products_with_one(calls, constants, recorded.live))
    result = add_panels(calls)
    assert [step for step in result.steps if isinstance(step, Call)] == calls
    assert_up_to_date(result)
    return result


def assert_up_to_date(result: Panelled) -> None:
    """Every product with panels finds in them what its matrix holds, as the matrix lies."""
    packs = [pack for pack in (*result.kept, *result.steps) if isinstance(pack, Pack)]
    by_panels = {pack.panels.data_ptr: pack for pack in packs}
    for i, own in result.uses.items():
        call, pack = result.steps[i], by_panels[own.data_ptr]
        name = "x" if call.kernel == "linear_backward_weight" else "w"
        assert pack.matrix.same_kind(call[name]) and pack.matrix.data_ptr == call[name].data_ptr
        assert pack.transposed == (call.kernel == "linear_forward")
        fresh = pack in result.kept or pack.matrix.data_ptr >= _native.PLACEHOLDERS
        for step in result.steps[:i]:
            if isinstance(step, Pack):
                fresh = fresh or step is pack
            elif any(t.writes and overlap(t, pack.touches(0)[0]) for t in step.touches()):
                fresh = False
        fresh = fresh and any(step is pack for step in (*result.kept, *result.steps[:i]))
        assert fresh, f"stale panels for {call}"


def shown(result: Panelled) -> list[str]:
    return [f"pack {'t' * s.transposed}".strip() if isinstance(s, Pack) else s.kernel for s in result.steps]


def test_a_weight_that_stays_is_packed_outside_of_the_run():
    w = parameter(32, 24)
    result = panelled(lambda x: F.linear(x, w), normal(16, 24))
    assert shown(result) == ["linear_forward"]
    (pack,) = result.kept
    assert pack.transposed and pack.matrix.data_ptr == w.buffer.data_ptr
    assert list(result.uses) == [0]


def test_a_weight_is_packed_again_after_each_step():
    first, last = parameter(32, 24), parameter(24, 32, seed=8)
    optimizer = optim.SGD([first, last], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = F.linear(F.linear(x, first), last).sum()
        loss.backward()
        optimizer.step()
        first.grad = last.grad = None
        return loss

    result = panelled(step, normal(16, 24))
    kernels = shown(result)
    # Of the first weight no gradient of the input is wanted, so that no product reads it as it lies.
    at = [i for i, kernel in enumerate(kernels) if kernel == "sgd_step"]
    assert kernels[at[0] : at[1]] == ["sgd_step", "pack t"]
    assert sorted(kernels[at[1] :]) == ["pack", "pack t", "sgd_step"]
    kept = [(pack.matrix.shape, pack.transposed) for pack in result.kept]
    assert kept == [((32, 24), True), ((24, 32), True), ((24, 32), False)]


def test_a_weight_that_the_function_itself_changes_is_packed_after_each_change():
    w = parameter(32, 32).detach()

    def function(x):
        y = F.linear(x, w)
        w.mul_(0.5)
        z = F.linear(y, w)
        w[:4] = 0.0
        return F.linear(z, w)

    result = panelled(function, normal(16, 32))
    assert len(result.uses) == 3
    assert shown(result).count("pack t") == 2


def test_two_products_with_one_weight_share_its_panels():
    w = parameter(32, 32)
    result = panelled(lambda x: F.linear(F.linear(x, w), w), normal(16, 32))
    assert len(result.kept) == 1 and list(result.uses) == [0, 1]
    assert len({own.data_ptr for own in result.uses.values()}) == 1


def test_the_input_of_a_layer_is_packed_as_soon_as_it_is_made():
    v, w = parameter(40, 32), parameter(36, 40, seed=8)

    def function(x):
        h = F.linear(x, v).exp()
        F.linear(h, w).sum().backward()
        gradients, v.grad, w.grad = (v.grad, w.grad), None, None
        return gradients

    kernels = shown(panelled(function, normal(16, 32)))
    assert kernels[0] == "pack"  # of the argument
    assert kernels[kernels.index("exp_forward") + 1] == "pack"
    assert kernels.count("pack") == 2


@pytest.mark.parametrize("kind", ["few rows", "few rows of dw", "small", "large"])
def test_products_that_panels_do_not_repay_read_the_matrix(kind, monkeypatch):
    if kind == "large":
        monkeypatch.setattr(panels, "_LARGEST", 1000)
    shape = {"few rows of dw": (31, 40), "small": (32, 15)}.get(kind, (40, 40))
    w = parameter(*shape)

    def function(x):
        y = F.linear(x, w)
        if kind == "few rows of dw":
            y.sum().backward()
            gradient, w.grad = w.grad, None
            return y, gradient
        return y

    result = panelled(function, normal(3 if kind == "few rows" else 16, shape[1]))
    used = {result.steps[i].kernel for i in result.uses}
    assert used == ({"linear_forward"} if kind == "few rows of dw" else set())


@pytest.mark.parametrize("kind", ["twice", "a part", "in between"])
def test_a_matrix_that_is_written_more_than_once_has_no_panels(kind):
    def function(x, w):
        h = fastbp.empty(32, 24)
        if kind == "a part":
            h[:16] = w[:16]
            h[16:] = w[16:]
        else:
            h.copy_(w)
            if kind == "twice":
                h.add_(1)
        y = F.linear(x, h)
        if kind == "in between":
            h.add_(1)
            return y, F.linear(x, h)
        return y

    result = panelled(function, normal(16, 24), normal(32, 24, seed=1))
    assert not result.uses and not result.kept


def deep(widths: Sequence[int], dtype: str = "float32") -> nn.Module:
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).to(dtype=getattr(fastbp, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [4, 33, 520])
@pytest.mark.parametrize("widths", [(24, 32, 40, 10), (33, 49, 65)])
def test_panels_change_no_bit(widths, rows, dtype, threads, monkeypatch):
    def setup():
        model = deep(widths, dtype)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        return training_step(model, optimizer), model, optimizer

    def between(t, model, optimizer):
        if t == 2:  # written by somebody else: kept panels are out of date
            with fastbp.no_grad():
                model[0].weight.mul_(0.5)
        if t == 3:  # through memory that the tensor shares
            model[0].weight.detach().numpy()[0] = 1

    calls = [batch(t, rows, widths[0], widths[-1], dtype) for t in range(4)]
    seen = []
    for largest in (panels._LARGEST, 0):
        monkeypatch.setattr(panels, "_LARGEST", largest)
        got, compiled = trace(setup, calls, lambda f: fastbp.compile(f), between)
        seen.append(got)
        ((variant,),) = compiled._variants.values()
        packs = [item for item in variant.built.items if isinstance(item.step, Pack)]
        assert bool(packs) == bool(largest)
    for t, (a, b) in enumerate(zip(*seen, strict=True)):
        assert_same(a, b, f"call {t}: ")
