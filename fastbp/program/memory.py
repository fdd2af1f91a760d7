"""Where everything that a program computes lives: one arena, planned when the program is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastbp._native import PLACEHOLDERS
from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call
from fastbp.program.chunks import CHUNK, Chunks
from fastbp.program.groups import Group
from fastbp.program.passes.panels import Pack
from fastbp.program.schedule import EVERY, GUARD, Item

ARENA, EACH_SHARE, BLOCK, CHUNKED, INPUT, OUTPUT = range(6)  # kinds of homes, as csrc/program.h has them
_LINE = 64
_ALWAYS = 0, 1 << 30  # the life of what is kept from run to run

Home = tuple[int, int, int, int, int]  # (address, bytes, kind, place, bytes of a row)


@dataclass
class Memory:
    """homes: of every placeholder. The arena has arena_bytes, and each_share_bytes for every share."""

    homes: list[Home]
    arena_bytes: int
    each_share_bytes: int


def homes_of(
    constants: Sequence[Call],
    items: Sequence[Item],
    stages: Sequence[int],
    groups: Sequence[Sequence[Group]],
    chunks: Chunks,
    kept: Sequence[Pack],
    inputs: Sequence[Buffer],
    outputs: Sequence[Buffer],
) -> Memory:
    """A home for every placeholder of constants, items and kept panels."""
    homes: dict[int, Home] = {}
    for i, b in enumerate(inputs):
        begin, size = b.storage
        homes[begin] = begin, max(size, 1), INPUT, i, 0
    number = 0
    for b in outputs:
        begin, size = b.storage
        if begin >= PLACEHOLDERS and begin not in homes:
            homes[begin] = begin, max(size, 1), OUTPUT, number, 0
            number += 1
    each = 0
    wanted: list[tuple[int, int, int]] = []  # of the arena: (storage, bytes, bytes of a row)
    fleeting = _fleeting(items, groups)
    private = {touch.storage for item in items if item.rows in (EVERY, GUARD) for touch in item.touches if touch.writes}
    sizes = _storages([*constants, *[item.step for item in items], *kept])
    for begin, size in sizes.items():
        if begin < PLACEHOLDERS or begin in homes:
            continue
        if begin in chunks.local:
            wanted.append((begin, CHUNK * chunks.local[begin], chunks.local[begin]))
        elif begin in fleeting:
            rows, row_bytes = fleeting[begin]
            homes[begin] = begin, max(size, 1), BLOCK, each, row_bytes
            each += _lines(rows * row_bytes)
        elif begin in private:
            homes[begin] = begin, max(size, 1), EACH_SHARE, each, 0
            each += _lines(size)
        else:
            wanted.append((begin, size, 0))
    lives = {} if chunks.rows else _lives(items, stages, set(_storages([*constants, *kept])))
    places, arena = _placed([(begin, size, lives.get(begin, _ALWAYS)) for begin, size, _ in wanted])
    for begin, _, row_bytes in wanted:
        kind = CHUNKED if begin in chunks.local else ARENA
        homes[begin] = begin, max(sizes[begin], 1), kind, places[begin], row_bytes
    return Memory(list(homes.values()), arena, each)


def _lives(items: Sequence[Item], stages: Sequence[int], always: set[int]) -> dict[int, tuple[int, int]]:
    """By storage, the first and the last stage that touches it: two that no stage both touches may share memory."""
    lives: dict[int, tuple[int, int]] = {}
    for item, stage in zip(items, stages):
        for touch in item.touches:
            first, last = lives.get(touch.storage, (stage, stage))
            lives[touch.storage] = min(first, stage), max(last, stage + item.stages - 1)
    return {storage: life for storage, life in lives.items() if storage not in always}


def _placed(wanted: Sequence[tuple[int, int, tuple[int, int]]]) -> tuple[dict[int, int], int]:
    """Offsets by storage, the largest first, each as low as those alive at the same time leave room; and the end."""
    placed: list[tuple[int, int, tuple[int, int]]] = []  # (begin, end, life)
    offsets = {}
    for storage, size, (first, last) in sorted(wanted, key=lambda w: -w[1]):
        offset = 0
        for begin, end, (since, until) in sorted(placed):
            if since <= last and first <= until and begin < offset + _lines(size) and offset < end:
                offset = end
        placed.append((offset, offset + _lines(size), (first, last)))
        offsets[storage] = offset
    return offsets, max((end for _, end, _ in placed), default=0)


def _storages(steps: Sequence[Call | Pack]) -> dict[int, int]:
    """The address and bytes of all memory that steps touch."""
    return dict(b.storage for step in steps for _, b in step.buffers())


def _fleeting(items: Sequence[Item], groups: Sequence[Sequence[Group]]) -> dict[int, tuple[int, int]]:
    """By storage, (rows of a block, bytes of a row) of what only one group with blocks touches, cut by rows."""
    groups_of: dict[int, set[int]] = {}
    shape: dict[int, tuple[int, int] | None] = {}
    for group in [group for stage in groups for group in stage]:
        for i, _ in group.members:
            for touch in items[i].touches:
                groups_of.setdefault(touch.storage, set()).add(id(group))
                row_bytes = (touch.high - touch.low) // group.rows if group.rows > 0 else 0
                fits = group.block and touch.cut and touch.low == touch.storage
                found = (group.block, row_bytes) if fits else None
                if shape.setdefault(touch.storage, found) != found:
                    shape[touch.storage] = None
    alone = {storage for storage, its in groups_of.items() if len(its) == 1 and storage >= PLACEHOLDERS}
    return {storage: found for storage, found in shape.items() if found is not None and storage in alone}


def _lines(size: int) -> int:
    return (size + _LINE) // _LINE * _LINE
