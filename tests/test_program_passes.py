"""Passes over a program's calls: what each changes, and that the calls after it leave the bits of those before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from compiled_runs import assert_same, batch, trace, training_step
from settings import native_settings_kept

import fastbp
from fastbp import _native, nn, optim
from fastbp.bench.workloads import WORKLOADS, compiled_step
from fastbp.kernels import reference
from fastbp.kernels.storage import Buffer
from fastbp.nn import functional as F
from fastbp.program import record
from fastbp.program.build import Built, build
from fastbp.program.calls import Call
from fastbp.program.memory import ARENA, BLOCK, CHUNKED, EACH_SHARE, OUTPUT
from fastbp.program.passes import panels
from fastbp.program.passes.activation import fuse_activations
from fastbp.program.passes.constants import drop_products_with_one, split_constants
from fastbp.program.passes.dead import drop_dead
from fastbp.program.passes.optimizer import split_steps
from fastbp.program.passes.panels import Pack, Panelled, add_panels
from fastbp.program.passes.uses import Uses
from fastbp.program.schedule import ALONE, EVERY, GUARD, TEAM, Item, repeated, stages_of
from fastbp.program.variant import run_calls
from fastbp.tensor import Tensor


class Recorded:
    """A function's calls, with the placeholders of what it takes and gives, and memory that it changes."""

    def __init__(self, function: Callable[..., Any], *given: Any, changes: Sequence[Tensor] = ()) -> None:
        self.given = [fastbp.tensor(g) for g in given]
        self.changes = changes
        with record.recording() as recorder:
            inputs = [recorder.stand_in(t) for t in self.given]
            results = function(*inputs)
            self.outputs = [t.buffer for t in (results if isinstance(results, tuple) else (results,))]
        self.calls = recorder.calls
        self.inputs = [t.buffer for t in inputs]
        ranges = [(begin, begin + size) for begin, size in (b.storage for b in (*self.inputs, *self.outputs))]
        self.live = [(0, _native.PLACEHOLDERS), *ranges]

    def kernels(self, calls: Sequence[Call] | None = None) -> list[str]:
        return [call.kernel for call in (self.calls if calls is None else calls)]

    def results(self, calls: Sequence[Call]) -> list[bytes]:
        """What the calls leave on the reference backend: outputs, inputs and changed memory, which is put back."""
        before = [t.detach().numpy().copy() for t in self.changes]
        inputs = [t.clone().buffer for t in self.given]
        with fastbp.backend("reference"):
            outputs = run_calls(calls, self.inputs, inputs, self.outputs)
        left = [np.asarray(b).tobytes() for b in (*outputs, *inputs, *[t.buffer for t in self.changes])]
        for t, values in zip(self.changes, before):
            t.detach().numpy()[...] = values
        return left

    def assert_same_bits(self, calls: Sequence[Call]) -> None:
        assert self.results(calls) == self.results(self.calls)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def parameter(*shape: int, seed: int = 7) -> nn.Parameter:
    return nn.Parameter(fastbp.tensor(normal(*shape, seed=seed)))


# --- dead calls -------------------------------------------------------------------------------------------------------


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


# --- activations ------------------------------------------------------------------------------------------------------

FUSED = [op.__name__ for op in nn.activation.OPERATIONS if op.__name__ not in ("softmax", "log_softmax", "clamp")]


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
    calls = fused(recorded)
    saved = getattr(reference, f"{name}_forward", None)
    if saved is None or saved.facts.saved is None:
        return  # composed of others
    (call,) = calls
    assert call["activation"] == name and call["z"] is None
    assert call["constant"] == next((recorded.calls[-1][c] for c in saved.facts.constants), 0.0)


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
    if f"{name}_backward" in recorded.kernels():
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
        if between == "softmax":
            return F.softmax(z, 1)
        return F.tanh({"a part": z[:2], "transposed": z.t().contiguous()}.get(between, z))

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


# --- steps ------------------------------------------------------------------------------------------------------------


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


# --- stages -----------------------------------------------------------------------------------------------------------


def step_of(net: Any, kind: Any, loss: Callable[..., Any], clip: bool = False, **options: Any) -> Callable[..., Any]:
    optimizer = kind(net.parameters(), lr=0.1, **options)

    def step(x, y):
        optimizer.zero_grad()
        value = loss(net(x), y)
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        for p in net.parameters():
            p.grad = None
        return value

    return step


def labels(rows: int, classes: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, classes, rows)


PROGRAMS = {
    "forward": lambda: Recorded(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), normal(16, 6)),
    "step": lambda: Recorded(
        step_of(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)), optim.Adam, F.mse_loss),
        normal(16, 6),
        normal(16, 4),
    ),
    "dropout": lambda: Recorded(
        step_of(
            nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4)),
            optim.SGD,
            F.cross_entropy,
            clip=True,
            momentum=0.9,
        ),
        normal(16, 6),
        labels(16, 4),
    ),
    "large": lambda: Recorded(
        step_of(nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 48)), optim.RMSprop, F.cross_entropy),
        normal(48, 64),
        labels(48, 48),
    ),
    "rows and columns": lambda: Recorded(
        lambda x, y: ((x + y).sum(0), (x * y).sum(1), x @ y.t(), F.softmax(x, 1) - F.softmax(y, 0), x[2:] + y[:-2]),
        normal(12, 12),
        normal(12, 12, seed=1),
    ),
    "in place": lambda: Recorded(
        lambda x, y: (x.add_(y.sum(0)), y.copy_(x.t()), x.mul_(2), x + y)[-1:], normal(9, 9), normal(9, 9, seed=1)
    ),
    "parts": lambda: Recorded(
        lambda x, y: tuple(F.mse_loss(x[i : i + 4] @ y, x[i : i + 4] * 2) for i in range(0, 12, 4)),
        normal(12, 12),
        normal(12, 12, seed=1),
    ),
}


def overlap(a: Any, b: Any) -> bool:
    return (a.writes or b.writes) and a.low < b.high and b.low < a.high


@pytest.fixture(params=[1, 2, 3, 8])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with native_settings_kept():
        fastbp.set_num_threads(request.param)
        yield request.param


def built_of(recorded: Recorded, guarded: bool = False) -> Built:
    return build(recorded.calls, recorded.inputs, recorded.outputs, guarded)


def built_programs() -> Iterator[tuple[str, Built]]:
    """Every program; and those whose first result is one number also with a guard."""
    for name, make in PROGRAMS.items():
        yield name, built_of(make())
        recorded = make()
        if recorded.outputs[0].size == 1 and "parts" not in name:
            yield f"{name}, guarded", built_of(recorded, guarded=True)


def is_private(item: Item, touch: Any) -> bool:
    """Whether every share has its own result of this item."""
    return item.rows in (EVERY, GUARD) and touch.writes


def test_items_that_touch_the_same_memory_are_apart_or_cut_alike(threads):
    for name, built in built_programs():
        items = list(zip(built.items, built.stages, strict=True))
        for (first, stage), (second, later) in combinations(items, 2):
            where = f"{name}: {first.step} and {second.step}"
            for a in first.touches:
                for b in second.touches:
                    if not overlap(a, b) or stage + first.stages - 1 < later:
                        continue
                    # In one stage, in the order of the items, which every share keeps for its own rows.
                    assert stage + first.stages - 1 == later, where
                    alike = a.cut and b.cut and (a.low, a.high) == (b.low, b.high)
                    same = first.rows == second.rows != TEAM and (first.rows in (ALONE, EVERY) or alike)
                    assert same or is_private(first, a), where


def test_what_every_share_runs_writes_small_memory_that_nobody_sees_afterwards(threads):
    seen = 0
    for name, built in built_programs():
        outputs = {home[0] for home in built.memory.homes if home[2] == OUTPUT}
        for item in built.items:
            for touch in item.touches if item.rows == EVERY else ():
                if touch.writes:
                    seen += 1
                    assert touch.storage >= _native.PLACEHOLDERS and touch.high - touch.low <= 64, name
                    assert touch.storage not in outputs
                    others = [(other, t) for other in built.items for t in other.touches if t.storage == touch.storage]
                    writers = [other for other, t in others if t.writes]
                    assert writers == [item], name
    assert seen


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_passes_together_leave_the_bits(name):
    recorded = PROGRAMS[name]()
    built = built_of(recorded)
    touched = [b for call in recorded.calls for _, b in call.buffers() if b.data_ptr < _native.PLACEHOLDERS]
    recorded.changes = [Tensor(b) for b in {b.data_ptr: b for b in touched}.values()]
    recorded.assert_same_bits([*built.constants, *built.calls])
    assert built.recorded == recorded.calls


def hand_made(*uses: tuple[str, str, int]) -> list[Item]:
    """Items y = exp(x) on named memory of 8 rows, cut from so many rows."""
    memory: dict[str, Buffer] = {}
    with record.recording():
        for x, y, _ in uses:
            for name in (x, y):
                memory.setdefault(name, fastbp.empty(8, 2).buffer)
    return [item_of(Call("exp_forward", (memory[x], memory[y])), rows) for x, y, rows in uses]


def item_of(call: Call, rows: int, stages: int = 1) -> Item:
    return Item(call, rows, stages, list(range(stages)), call.touches(max(rows, 0)))


@pytest.mark.parametrize(
    ("uses", "stages"),
    [
        ([("a", "b", 8), ("b", "c", 8), ("c", "d", 8)], [0, 0, 0]),  # rows follow rows
        ([("a", "b", 8), ("b", "c", ALONE)], [0, 1]),
        ([("a", "b", ALONE), ("b", "c", 8)], [0, 1]),
        ([("a", "b", ALONE), ("b", "c", ALONE)], [0, 0]),  # one share runs both
        ([("a", "b", TEAM), ("b", "c", TEAM)], [0, 1]),
        ([("a", "b", 8), ("c", "d", ALONE), ("e", "f", TEAM)], [0, 0, 0]),  # nothing in common
        ([("a", "b", 8), ("a", "c", ALONE)], [0, 0]),  # only read
        ([("a", "b", 8), ("c", "b", ALONE)], [0, 1]),  # written twice
        ([("a", "b", 8), ("c", "a", ALONE)], [0, 1]),  # read, then written
        ([("a", "b", 8), ("b", "c", ALONE), ("a", "d", 8), ("c", "e", ALONE), ("d", "f", 8)], [0, 1, 0, 1, 0]),
        ([("a", "b", EVERY), ("b", "c", 8)], [0, 0]),  # each share reads its own
        ([("a", "b", EVERY), ("b", "c", EVERY), ("c", "d", ALONE)], [0, 0, 0]),
        ([("a", "b", EVERY), ("b", "c", TEAM)], [0, 0]),
        ([("a", "b", 8), ("b", "c", EVERY)], [0, 1]),  # each share reads the rows of all
        ([("a", "b", ALONE), ("b", "c", EVERY), ("c", "d", 8)], [0, 1, 1]),
        ([("a", "b", EVERY), ("c", "a", 8)], [0, 1]),  # a share may still read what another overwrites
        ([("a", "b", EVERY), ("c", "a", EVERY)], [0, 0]),
    ],
)
def test_stages_of_hand_made_calls(uses, stages):
    assert stages_of(hand_made(*uses)) == stages


def test_a_call_of_two_stages_is_followed_after_both():
    first, second, third = hand_made(("a", "b", 8), ("b", "c", 8), ("d", "e", 8))
    assert stages_of([item_of(first.step, TEAM, 2), second, third]) == [0, 2, 0]


def test_parts_of_one_memory_that_do_not_overlap_need_no_barrier():
    with record.recording():
        x = fastbp.empty(8, 2)
        halves = [x[:4].buffer, x[4:].buffer]
        others = [fastbp.empty(4, 2).buffer for _ in range(2)]
    calls = [Call("exp_forward", (halves[0], others[0])), Call("exp_forward", (others[1], halves[1]))]
    assert stages_of([item_of(calls[0], 4), item_of(calls[1], ALONE)]) == [0, 0]
    overlapping = [Call("exp_forward", (x.buffer, fastbp.empty(8, 2).buffer)), calls[1]]
    assert stages_of([item_of(overlapping[0], 8), item_of(overlapping[1], 4)]) == [0, 1]


@pytest.mark.parametrize(
    ("uses", "rows"),
    [
        ([("a", "b", EVERY), ("b", "c", 8)], [EVERY, 8]),  # else a barrier before the rows
        ([("a", "b", EVERY), ("b", "c", ALONE)], [ALONE, ALONE]),  # the same share reads it
        ([("a", "b", EVERY), ("b", "c", ALONE), ("b", "d", 8)], [EVERY, ALONE, 8]),
        ([("a", "b", EVERY)], [ALONE]),  # no reader
        ([("a", "b", 8), ("a", "c", ALONE)], [8, ALONE]),  # others stay
        ([("a", "b", EVERY), ("x", "y", 8), ("y", "z", ALONE), ("b", "z", ALONE)], [ALONE, 8, ALONE, ALONE]),
    ],
)
def test_what_saves_no_barrier_is_not_repeated_by_every_share(uses, rows):
    items = hand_made(*uses)
    assert [item.rows for item in repeated(items, stages_of(items))] == rows


# --- groups -----------------------------------------------------------------------------------------------------------


def order_of(built: Built, stage: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(group, place in it) by (item, phase) of a stage: a share takes them in this order."""
    groups = built.groups[stage]
    return {member: (g, at) for g, group in enumerate(groups) for at, member in enumerate(group.members)}


def test_every_phase_with_work_is_in_one_group_of_its_stage(threads):
    for name, built in built_programs():
        found = defaultdict(list)
        for stage, groups in enumerate(built.groups):
            for group in groups:
                assert group.members, name
                for i, phase in group.members:
                    found[i, phase].append(stage - phase if built.items[i].rows == TEAM else stage)
                    assert group.rows == built.items[i].rows and group.part == built.chunks.part[i], name
        expected = {
            (i, phase): [stage]
            for i, (item, stage) in enumerate(zip(built.items, built.stages))
            for phase in item.phases
        }
        assert dict(found) == expected, name


def test_groups_keep_the_order_of_items_that_depend_on_each_other(threads):
    for name, built in built_programs():
        for stage in range(len(built.groups)):
            order = order_of(built, stage)
            for (i, first), (j, second) in combinations(sorted(order), 2):
                touches = built.items[i].touches, built.items[j].touches
                if i != j and any(overlap(a, b) for a in touches[0] for b in touches[1]):
                    assert order[i, first] < order[j, second], f"{name}: {built.items[i].step}, {built.items[j].step}"


def test_groups_of_equal_rows_are_cut_at_the_same_rows(threads):
    for name, built in built_programs():
        for groups in built.groups:
            for a, b in combinations(groups, 2):
                if a.rows == b.rows > 0:
                    assert a.grain == b.grain, name
            for group in groups:
                assert group.block % group.grain == 0, name
                for i, _ in group.members:
                    step = built.items[i].step
                    if isinstance(step, Pack) and step.transposed:  # whose rows share the words of a strip
                        assert group.grain % _native.panel_width(step.matrix.dtype) == 0, name


def test_the_steps_of_a_weight_follow_its_gradient_block_by_block():
    with native_settings_kept():
        fastbp.set_num_threads(2)
        built = built_of(PROGRAMS["large"]())
    blocks = [group for stage in built.groups for group in stage if group.block]
    for group in blocks:
        steps = [built.items[i].step for i, _ in group.members]
        kernels = ["pack" if isinstance(step, Pack) else step.kernel for step in steps]
        assert kernels[0] == "linear_backward_weight" and kernels.index("rmsprop_step") < kernels.index("pack")
        # The gradient is needed a block at a time only.
        gradient = steps[0]["dw"].storage[0]
        (home,) = [home for home in built.memory.homes if home[0] == gradient]
        assert home[2] == BLOCK
    assert [group.rows for group in blocks] == [48, 96]


# --- memory -----------------------------------------------------------------------------------------------------------


def test_homes_of_memory_in_use_at_the_same_time_do_not_overlap(threads):
    for name, built in built_programs():
        always = {b.storage[0] for call in built.constants for _, b in call.buffers()}
        always |= {pack.panels.storage[0] for pack in built.kept}
        life: dict[int, list[int]] = defaultdict(list)
        for item, stage in zip(built.items, built.stages):
            for touch in item.touches:
                life[touch.storage] += [stage, stage + item.stages - 1]
        members = [(g.block, built.items[i]) for stage in built.groups for g in stage for i, _ in g.members]
        blocks = {touch.storage: block for block, item in members if block for touch in item.touches}
        places = []
        for begin, size, kind, offset, row_bytes in built.memory.homes:
            if kind in (ARENA, CHUNKED, BLOCK, EACH_SHARE):
                size = {CHUNKED: 512 * row_bytes, BLOCK: blocks.get(begin, 0) * row_bytes}.get(kind, size)
                own = kind in (BLOCK, EACH_SHARE)
                assert offset % 64 == 0, name
                assert offset + size <= (built.memory.each_share_bytes if own else built.memory.arena_bytes), name
                used = [-1, len(built.groups)] if begin in always else life[begin]
                when = (min(used, default=0), max(used, default=-1))
                places.append((own, offset, offset + size, when))
        for (own, low, high, when), (other, begin, end, then) in combinations(places, 2):
            if own == other and low < end and begin < high:
                assert when[1] < then[0] or then[1] < when[0], name


def test_every_placeholder_has_a_home(threads):
    for name, built in built_programs():
        homes = {home[0] for home in built.memory.homes}
        steps = [*built.constants, *[item.step for item in built.items], *built.kept]
        wanted = {b.storage[0] for step in steps for _, b in step.buffers()}
        assert {begin for begin in wanted if begin >= _native.PLACEHOLDERS} <= homes, name


# --- panels -----------------------------------------------------------------------------------------------------------


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


# --- the guard --------------------------------------------------------------------------------------------------------


def test_the_guard_comes_right_after_the_first_result_and_others_read_its_copy():
    recorded = PROGRAMS["step"]()
    built = built_of(recorded, guarded=True)
    (at,) = [i for i, item in enumerate(built.items) if item.rows == GUARD]
    guard = built.items[at].step
    assert guard.kernel == "copy" and guard["x"].size == 1
    copied = guard["x"].storage[0]
    made = [i for i, item in enumerate(built.items) if any(t.writes and t.storage == copied for t in item.touches)]
    assert made and max(made) < at
    result = recorded.outputs[0].storage[0]
    (last,) = [item.step for item in built.items if any(t.writes and t.storage == result for t in item.touches)]
    assert last.kernel == "copy" and last["x"].data_ptr == guard["x"].data_ptr
    assert not any(t.storage == result and not t.writes for item in built.items for t in item.touches)


def test_weights_are_written_after_the_guard_has_looked(threads):
    for name in ("step", "dropout", "large"):
        built = built_of(PROGRAMS[name](), guarded=True)
        at = next(i for i, item in enumerate(built.items) if item.rows == GUARD)
        order = {}
        for stage in range(len(built.groups)):
            order |= {i: (stage, *place) for (i, _), place in order_of(built, stage).items()}
        for i, item in enumerate(built.items):
            outlives = any(t.writes and 0 <= t.storage < _native.PLACEHOLDERS for t in item.touches)
            if outlives and item.rows not in (ALONE, EVERY):
                assert order[i] > order[at], f"{name}: {item.step}"


@pytest.mark.parametrize("kind", ["many", "none", "an input", "a part", "an integer"])
def test_a_first_result_that_cannot_be_guarded_is_refused(kind):
    def function(x):
        given = {"many": x[:3] * 2, "none": fastbp.empty(0), "an input": x, "a part": x.exp()[0]}
        return given.get(kind, x.argmax() - 1)

    recorded = Recorded(function, normal(1 if kind == "an input" else 3))
    with pytest.raises(_native.RecordingError, match="a first result of one number"):
        built_of(recorded, guarded=True)


# --- uses -------------------------------------------------------------------------------------------------------------


def test_uses_find_calls_by_memory():
    recorded = Recorded(lambda x: ((y := x.exp())[0:2].sin(), y.add_(1))[:1], normal(4))
    uses = Uses(recorded.calls, recorded.live)
    y = recorded.calls[0]["y"]
    assert [recorded.calls[i].kernel for i in uses.of(y)] == ["exp_forward", "sin_forward", "add", "copy"]
    assert [recorded.calls[i].kernel for i in uses.writing(y)] == ["exp_forward", "copy"]
    assert uses.of(y, 1, 2) == [1]
    assert not uses.outlives(y) and uses.outlives(recorded.inputs[0]) and uses.outlives(recorded.outputs[0])


@pytest.mark.parametrize("name", ["rl", "mnist_small", "mnist", "deep"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_training_step_has_one_barrier_inside_and_one_at_its_end(name, threads):
    with native_settings_kept():
        fastbp.set_num_threads(threads)
        step = compiled_step(WORKLOADS[name])
        assert step.func._prepared(step.args, {}).built.program.barriers == 1
