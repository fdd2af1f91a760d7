"""The memory of a program: a home for every placeholder, shared only by what is not in use together."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from recorded_programs import built_programs
from settings import numbers_of_threads

from fastbp import _native
from fastbp.program.memory import ARENA, BLOCK, CHUNKED, EACH_SHARE

threads = numbers_of_threads(1, 2, 3, 8)


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
