"""Groups of a stage: every item in one, in an order that each share can keep, cut at the same rows."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from recorded_programs import PROGRAMS, built_of, built_programs, order_of, overlap
from settings import native_settings_kept, numbers_of_threads

import fastbp
from fastbp import _native
from fastbp.program.memory import BLOCK
from fastbp.program.passes.panels import Pack
from fastbp.program.schedule import TEAM

threads = numbers_of_threads(1, 2, 3, 8)


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
                    elif not isinstance(step, Pack) and step.facts.partition == "columns":  # lines of a matrix's rows
                        assert group.grain * 4 % 64 == 0, name


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
