"""Stages of a program: what touches the same memory is apart or cut alike, and no barrier is needless."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from compiled_runs import labelled, training_step
from recorded_programs import built_programs, overlap
from settings import native_settings_kept, numbers_of_threads

import fastbp
from fastbp import _native, nn, optim
from fastbp.bench.workloads import WORKLOADS, compiled_step
from fastbp.kernels.storage import Buffer
from fastbp.nn import functional as F
from fastbp.program import record
from fastbp.program.calls import Call
from fastbp.program.memory import OUTPUT
from fastbp.program.schedule import ALONE, EVERY, GUARD, TEAM, Item, repeated, stages_of

threads = numbers_of_threads(1, 2, 3, 8)


# --- of whole programs ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["rl", "mnist_small", "mnist", "deep"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_training_step_has_one_barrier_inside_and_one_at_its_end(name, threads):
    with native_settings_kept():
        fastbp.set_num_threads(threads)
        step = compiled_step(WORKLOADS[name])
        assert step.func._prepared(step.args, {}).built.program.barriers == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("norm", "barriers"), [(None, 1), (nn.LayerNorm, 1), (nn.RMSNorm, 1), (nn.BatchNorm1d, 8)], ids=str
)
def test_norms_of_two_layers_cost_no_barriers_over_rows_and_two_each_way_over_columns(norm, barriers, threads):
    with native_settings_kept():
        fastbp.set_num_threads(threads)
        model = nn.MLP(20, (64, 64), 10, norm=norm)
        step = fastbp.compile(training_step(model, optim.Adam(model.parameters()), F.cross_entropy))
        step(*labelled(0, 48, 20, 10))
        assert step._last.built.program.barriers == barriers


def test_norms_in_evaluation_cost_no_barriers():
    with native_settings_kept():
        fastbp.set_num_threads(2)
        for norm in (nn.LayerNorm, nn.BatchNorm1d):
            predict = fastbp.compile(nn.MLP(20, (64, 64), 10, norm=norm).eval().__call__)
            predict(labelled(0, 48, 20, 10)[0])
            assert predict._last.built.program.barriers == 0


# --- of calls made by hand --------------------------------------------------------------------------------------------


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


def touched(call: Call) -> dict[str, set[bool]]:
    """By operand, whether its touches are cut as the call's rows are."""
    found: dict[str, set[bool]] = {}
    for name, b in call.buffers():
        mine = {touch.cut for touch in call.touches() if touch.storage == b.storage[0]}
        found[name] = mine
    return found


@pytest.mark.parametrize("rows", [8, 5])
def test_calls_cut_by_columns_cut_vectors_and_leave_matrices_whole(rows):
    """Also where there are as many rows as columns, and where vectors have an element for each row."""
    cols = 5

    def new(*shape):
        return fastbp.empty(shape).buffer

    with record.recording():
        batch = Call(
            "batch_norm_forward",
            (new(rows, cols), new(cols), new(cols), None, 1e-5, 0.1, new(cols), new(cols), new(rows, cols), new(cols),
             new(cols)),
        )  # fmt: skip
        sums = Call(
            "row_norm_backward_weight",
            (new(rows, cols), new(rows, cols), new(rows), new(rows), False, new(cols), new(cols)),
        )
    assert batch.rows == sums.rows == cols
    cut = {name for name, kinds in touched(batch).items() if kinds == {True}}
    assert cut == {"w", "b", "running_mean", "running_var", "mean", "rstd"}
    assert {name for name, kinds in touched(sums).items() if kinds == {True}} == {"dw", "db"}
