"""From recorded calls to a program that runs: the passes in their order, the plan of memory, and the native program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastbp import _native
from fastbp._native import PLACEHOLDERS
from fastbp.kernels import native
from fastbp.kernels.storage import Buffer
from fastbp.program.calls import Call
from fastbp.program.chunks import Chunks, chunks_of
from fastbp.program.groups import Group, groups_of
from fastbp.program.memory import Memory, homes_of
from fastbp.program.passes.activation import fuse_activations
from fastbp.program.passes.constants import drop_products_with_one, split_constants
from fastbp.program.passes.dead import drop_dead
from fastbp.program.passes.guard import add_guard
from fastbp.program.passes.optimizer import split_steps
from fastbp.program.passes.panels import Pack, add_panels
from fastbp.program.schedule import Item, items_of, repeated, stages_of, written_before


@dataclass
class Built:
    """A program and what it was made from.

    recorded: the calls as the function made them. constants, calls: those after all passes, of which constants ran when
    the program was made. items, stages: calls and packs of panels, how and when each runs. kept: packs of what outlives
    a run. groups: of each stage.
    """

    recorded: list[Call]
    constants: list[Call]
    calls: list[Call]
    items: list[Item]
    stages: list[int]
    kept: list[Pack]
    groups: list[list[Group]]
    chunks: Chunks
    memory: Memory
    threads: int
    program: _native.Program


def build(
    recorded: Sequence[Call], inputs: Sequence[Buffer], outputs: Sequence[Buffer], guarded: bool = False
) -> Built:
    """A program of recorded calls; inputs and outputs are the placeholders that each run gives memory to.

    guarded: a run ends, and nothing has changed, where the first output is not finite.
    """
    live = [(0, PLACEHOLDERS), *_ranges(inputs), *_ranges(outputs)]
    constants, calls = split_constants(recorded, live)
    calls = drop_products_with_one(calls, constants, live)
    calls = fuse_activations(calls, live)
    calls = drop_dead(calls, live)
    calls = split_steps(calls)

    program = _native.Program()
    _native.record_into(program)
    try:
        guard = None
        if guarded:
            calls, guard = add_guard(calls, outputs[0])
        panelled = add_panels(calls)
        for step in (*constants, *panelled.steps):
            _note(program, step)
        first = len(constants)
        for i, panels in panelled.uses.items():
            program.use_panels(first + i, panels)
        place = {step.panels.data_ptr: first + i for i, step in enumerate(panelled.steps) if isinstance(step, Pack)}
        for pack in panelled.kept:
            if pack.panels.data_ptr not in place:  # of a matrix that the program only reads
                place[pack.panels.data_ptr] = program.call_count
                _note(program, pack)
            program.keep_panels(place[pack.panels.data_ptr], pack.matrix)
    finally:
        _native.record_into(None)
    threads = _native.threads()
    items = items_of(panelled.steps, program.phases()[first:], panelled.uses, live, guard)
    items = repeated(items, stages_of(items))
    stages = stages_of(items)
    for address, size in written_before(items, stages, guard) if guard else ():
        program.save_before_guard(address, size)
    chunks = chunks_of(items, stages, live)
    groups = groups_of(items, stages, chunks.part)
    memory = homes_of(constants, items, stages, groups, chunks, panelled.kept, inputs, outputs)
    program.finish(
        memory.homes,
        memory.arena_bytes,
        memory.each_share_bytes,
        [[group.facts(first) for group in stage] for stage in groups],
        threads,
        chunks.rows,
    )
    program.run_once(list(range(first)))
    return Built(
        list(recorded), constants, calls, items, stages, panelled.kept, groups, chunks, memory, threads, program
    )


def _note(program: _native.Program, step: Any) -> None:
    if isinstance(step, Pack):
        program.add_pack(step.matrix, step.transposed, step.panels)
    else:
        getattr(native, step.kernel)(*step.arguments)


def _ranges(buffers: Sequence[Buffer]) -> list[tuple[int, int]]:
    return [(begin, begin + bytes) for begin, bytes in (b.storage for b in buffers)]
