"""Groups: items of a stage that go over the same rows together, block by block, so that each block stays in the cache.

A share takes its rows of a group; a block of rows goes through all members before the next. So the gradient of a
weight, the optimizer's step and the packing of the new weight touch memory once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastbp import _native
from fastbp.program.calls import Call, Touch
from fastbp.program.passes.panels import Pack
from fastbp.program.schedule import TEAM, Item

_COLUMNS = 16  # of a matrix: whole cache lines, so that no two threads write to one
_BLOCK = 48  # rows of a weight: whole tiles of every instruction set, few enough for the second-level cache


@dataclass
class Group:
    """rows: what shares are cut from, at multiples of grain, or a word of schedule.py. block: rows at once, 0 for all.
    members: (position of an item, phase)."""

    rows: int
    part: int = 0  # in chunks, as chunks.py has it
    grain: int = 1
    block: int = 0
    members: list[tuple[int, int]] = field(default_factory=list)

    def facts(self, first: int) -> tuple[int, int, int, int, list[tuple[int, int]]]:
        """As the native program takes it, where item i is its call `first` + i."""
        return self.rows, self.block, self.grain, self.part, [(first + i, phase) for i, phase in self.members]


def groups_of(items: Sequence[Item], stages: Sequence[int], part: Sequence[int]) -> list[list[Group]]:
    """The groups of every stage. An item joins the group that it depends on last, where both are cut alike.

    part: of each item, in the chunks.
    """
    count = max((stage + item.stages for item, stage in zip(items, stages)), default=0)
    result: list[list[Group]] = [[] for _ in range(count)]
    touched: list[dict[int, list[tuple[int, Item]]]] = [{} for _ in range(count)]  # by storage: (group, item)
    for i, (item, stage) in enumerate(zip(items, stages)):
        if item.rows == TEAM:
            for phase in item.phases:
                result[stage + phase].append(Group(TEAM, members=[(i, phase)]))
            continue
        groups, past = result[stage], touched[stage]
        before = {g for touch in item.touches for g, other in past.get(touch.storage, ()) if _orders(other, touch)}
        needs = max(before, default=-1)
        if needs < 0 or groups[needs].rows != item.rows or item.rows <= 0 or groups[needs].part != part[i]:
            needs = len(groups)
            groups.append(Group(item.rows, part[i]))
        group = groups[needs]
        group.members += [(i, phase) for phase in item.phases]
        for touch in item.touches:
            past.setdefault(touch.storage, []).append((needs, item))
    for groups in result:
        for group in groups:
            _shape(group, items)
        for group in groups:  # shares of all groups that go over the same rows are the same rows
            group.grain = max(other.grain for other in groups if other.rows == group.rows)
            group.block = -(-group.block // group.grain) * group.grain
    return result


def _orders(first: Item, second: Touch) -> bool:
    """Whether the order of an item and of what touches the same storage matters."""
    return any(
        touch.storage == second.storage
        and (touch.writes or second.writes)
        and touch.low < second.high
        and second.low < touch.high
        for touch in first.touches
    )


def _shape(group: Group, items: Sequence[Item]) -> None:
    """Sets where a group may be cut, and its blocks."""
    steps = [items[i].step for i, _ in group.members]
    if group.rows <= 0:
        return
    for step in steps:
        if isinstance(step, Pack) and step.transposed:
            group.grain = math.lcm(group.grain, _native.panel_width(step.matrix.dtype))
        elif isinstance(step, Call) and step.facts.partition == "columns":
            group.grain = math.lcm(group.grain, _COLUMNS)
    if len(steps) > 1 and any(isinstance(step, Call) and step.kernel == "linear_backward_weight" for step in steps):
        group.block = max(_BLOCK // group.grain, 1) * group.grain
