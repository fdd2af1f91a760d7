"""A recording as text for people: what it computes, in which order, cut how, and in which memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from fastbp._native import PLACEHOLDERS
from fastbp.amounts import short
from fastbp.dtypes import BY_CODE
from fastbp.kernels.storage import Buffer
from fastbp.ops.random import default_generator
from fastbp.program.calls import Call
from fastbp.program.chunks import CHUNK
from fastbp.program.memory import ARENA, BLOCK, CHUNKED, EACH_SHARE
from fastbp.program.passes.panels import Pack
from fastbp.program.schedule import ALONE, GUARD, TEAM
from fastbp.program.variant import Variant
from fastbp.tensor import Tensor

_WIDTH = 120
_CALL = "kernel", "ops", "bytes", "operands"
_LEFT = "", "cut", "kernel", "buffer"  # the columns of words, not of numbers
_LEGEND = """\
x(32, 8)@input0: the operand x has 32 × 8 elements and is in input 0. A call reads what is before an arrow, writes what
is after →, and does both with what is after ↔. tN is memory of the program's own; all other names outlive a run."""


class _Row(NamedTuple):
    """A line of a table: cells, and pieces of text that go on in further lines where one is full."""

    cells: tuple[str, ...]
    pieces: Sequence[str] = ()


def explanation(variant: Variant, name: str) -> str:
    """The overview of a recording of the function `name`, its calls before and after fusing, and its arena."""
    names = _names(variant)
    recorded = [_Row((str(i), *_cells(c)), _operands(c, names)) for i, c in enumerate(variant.built.recorded)]
    blocks = [
        [f"Program of {name}", *_counts(variant)],
        _facts(variant, names),
        [_LEGEND],
        ["Before fusing, as the function makes the calls", *_table(("#", *_CALL), recorded)],
        ["After fusing, in the order in which they run", *_table(("#", "stage", "cut", *_CALL), _run(variant, names))],
        ["The arena", *_table(("buffer", "offset", "bytes", "first call", "last call", ""), _arena(variant, names))],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _counts(variant: Variant) -> list[str]:
    lists = variant.built.recorded, variant.built.calls
    totals = [(len(calls), *map(sum, zip((0, 0), *map(_work, calls)))) for calls in lists]
    rows = [_Row((what, f"{a:,}", f"{b:,}")) for what, a, b in zip(("calls", "operations", "bytes moved"), *totals)]
    return _table(("", "before fusing", "after fusing", ""), rows)


def _facts(variant: Variant, names: dict[int, str]) -> list[str]:
    built = variant.built
    kept = [f"{_place(t.buffer, names)}.grad" for t, _ in variant.kept]
    of_inputs = [f"input{i}.grad" for i, _ in variant.given_gradients]
    gradients = [f"{_place(g.tensor.buffer, names)}.grad" for g in variant.gradients if g.stand_in is not None]
    given = [""] * (len(variant.inputs) - len(gradients))
    chunks = -(-built.chunks.rows // CHUNK)
    facts = {
        "stages": [str(len(built.groups))],
        "barriers": [str(max(built.program.barriers, 0))],
        "chunks": [f"{chunks} of at most {CHUNK} rows, through stages 0 and 1" if chunks else "none"],
        "threads": [f"at most {built.threads}"],
        "constants": [f"{len(built.constants)}, filled once, when the program is made"],
        "arena": [f"{built.memory.arena_bytes:,} bytes, and {built.memory.each_share_bytes:,} for each thread"],
        "inputs": _listed(variant.inputs, given + gradients, names),
        "outputs": _listed(variant.outputs, [""] * len(variant.results) + kept + of_inputs, names),
    }
    return _table(("", ""), [_Row((what,), pieces) for what, pieces in facts.items()])


def _run(variant: Variant, names: dict[int, str]) -> Iterator[_Row | None]:
    """A row for each call, and for each further stage of a team's call; None where all threads wait for each other."""
    items, stages = variant.built.items, variant.built.stages
    at = 0
    order = sorted((stage + phase, i, phase) for i, stage in enumerate(stages) for phase in range(items[i].stages))
    for stage, i, phase in order:
        yield from [None] * (stage - at)
        at = stage
        step, rows = items[i].step, items[i].rows
        by_columns = isinstance(step, Call) and step.facts.partition == "columns"
        axis = "columns" if by_columns else "rows"
        cut = f"{axis} {rows}" if rows > 0 else {ALONE: "alone", TEAM: "team", GUARD: "guard"}.get(rows, "every share")
        cells = (f"… phase {phase + 1} of {items[i].stages}", "", "") if phase else _cells(step)
        yield _Row((str(i), str(stage), cut, *cells), [] if phase else _operands(step, names))


def _arena(variant: Variant, names: dict[int, str]) -> Iterator[_Row]:
    """A row for each buffer of the program's own, in the order of their places."""
    built = variant.built
    touching: dict[int, list[str]] = {}
    steps = [*(("made", c) for c in built.constants), *((str(i), item.step) for i, item in enumerate(built.items))]
    for number, step in steps:
        for _, b in step.buffers():
            touching.setdefault(b.storage[0], []).append(number)
    for begin, size, kind, offset, row_bytes in sorted(built.memory.homes, key=lambda home: home[2:]):
        if kind in (ARENA, EACH_SHARE, BLOCK, CHUNKED):
            own = {
                EACH_SHARE: " of each thread's",
                BLOCK: f" of each thread's, a block of rows of {row_bytes}",
                CHUNKED: f", a chunk of rows of {row_bytes}",
            }
            place = f"{offset:,}{own.get(kind, '')}"
            yield _Row((names[begin], place, f"{size:,}", touching[begin][0], touching[begin][-1]))


# ---------------------------------------------------------------- a call


def _cells(call: Call | Pack) -> tuple[str, str, str]:
    """Its kernel with what is fused into it, its operations and its bytes."""
    if isinstance(call, Pack):
        return f"pack{' transposed' if call.transposed else ''}", "0", short(2 * call.matrix.nbytes)
    kernel, activation = call.kernel, call.named().get("activation")
    if activation:  # by whose derivative the gradient of an input is multiplied
        kernel += f" + {activation}" + ("" if kernel.endswith("_forward") else "'")
    operations, moved = _work(call)
    return kernel, short(operations), short(moved)


def _work(call: Call) -> tuple[int, int]:
    """Its operations, and the bytes that it reads and writes."""
    return call.facts.operations(**call.named()), call.facts.bytes(**call.named())


def _operands(call: Call | Pack, names: dict[int, str]) -> list[str]:
    """Every operand with its shape and its place: those read, read and written, written."""
    if isinstance(call, Pack):
        return [_operand("matrix", call.matrix, names), "→ " + _operand("panels", call.panels, names)]
    named = call.named()
    groups: dict[str, list[str]] = {"": [], "↔ ": [], "→ ": []}
    reads, writes = call.facts.reads(**named), call.facts.writes(**named)
    for name in call.facts.operands:
        if (name in reads or name in writes) and named[name] != []:
            group = groups["" if name not in writes else "↔ " if name in reads else "→ "]
            group.append(_operand(name, named[name], names))
    return [(arrow if i == 0 else "") + text for arrow, group in groups.items() for i, text in enumerate(group)]


def _operand(name: str, value: Any, names: dict[int, str]) -> str:
    """x(32, 8)@input0; of a list the first tensor, and how many there are; a number stands for itself."""
    if isinstance(value, (list, tuple)):
        length, more = (f"[{len(value)}]", "…") if len(value) > 1 else ("", "")
        return _operand(name + length, value[0], names) + more
    return f"{name}{_shape(value)}@{_place(value, names)}" if isinstance(value, Buffer) else f"{name}={value}"


def _shape(b: Buffer) -> str:
    return f"({', '.join(map(str, b.shape))})"


# ---------------------------------------------------------------- where memory is


def _place(b: Buffer, names: dict[int, str]) -> str:
    """The name of the memory that a buffer is in, and how many bytes after its beginning it starts."""
    begin = b.data_ptr if b.data_ptr in names else b.storage[0]
    return names.get(begin, "persistent") + (f"+{b.data_ptr - begin}" if b.data_ptr != begin else "")


def _names(variant: Variant) -> dict[int, str]:
    """Names by address: of what modules and optimizers hold, of inputs and outputs; all other memory has numbers."""
    names: dict[int, str] = {default_generator.buffer.data_ptr: "random_state"}
    inner = {id(child) for module, _ in variant.modules for child in module.modules() if child is not module}
    outer = [m for m, _ in variant.modules if id(m) not in inner and m.state_dict()]
    for i, module in enumerate(outer):
        prefix = f"{type(module).__name__}{i}" if len(outer) > 1 else ""
        for name, tensor in (*module.named_parameters(prefix), *module.named_buffers(prefix)):
            names.setdefault(tensor.buffer.data_ptr, name)
    for optimizer, _ in variant.optimizers:
        _name_state(optimizer, names)
    for kind, buffers in (("input", variant.inputs), ("output", variant.outputs)):
        for i, b in enumerate(buffers):
            if b.storage[0] >= PLACEHOLDERS:
                names.setdefault(b.storage[0], f"{kind}{i}")
    own, others = count(), count()
    steps = [*variant.built.recorded, *[item.step for item in variant.built.items], *variant.built.kept]
    for b in (b for step in steps for _, b in step.buffers()):
        begin = b.storage[0]
        if begin not in names and b.data_ptr not in names:
            names[begin] = f"t{next(own)}" if begin >= PLACEHOLDERS else f"persistent{next(others)}"
    return names


def _name_state(optimizer: Any, names: dict[int, str]) -> None:
    """Adds what an optimizer keeps, by the names of its parameters."""
    kind = type(optimizer).__name__
    for i, cohort in enumerate(optimizer._cohorts):
        names[cohort.hyper.buffer.data_ptr] = f"{kind}.hyper{i or ''}"
    for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        own = names.setdefault(p.buffer.data_ptr, f"{kind}.params[{i}]")
        for slot, state in optimizer.state.get(p, {}).items():
            if isinstance(state, Tensor):
                names[state.buffer.data_ptr] = f"{own}.{slot}"


def _listed(buffers: Sequence[Buffer], meanings: Sequence[str], names: dict[int, str]) -> list[str]:
    """float32(16, 8)@input2=0.weight.grad: kind, place and what it is."""
    return [
        f"{BY_CODE[b.dtype].name}{_shape(b)}@{_place(b, names)}" + (f"={meaning}" if meaning else "")
        for b, meaning in zip(buffers, meanings)
    ] or ["none"]


def _table(header: Sequence[str], rows: Iterable[_Row | None]) -> list[str]:
    """Lines of aligned columns, of which the last holds the pieces; None draws the line of a barrier."""
    *titles, last = header
    rows = [*([_Row(tuple(titles), [last])] if any(header) else []), *rows]
    widths = [max(map(len, column)) for column in zip(*(row.cells for row in rows if row))]
    lines = []
    for row in rows:
        if row is None:
            lines.append("──── barrier ".ljust(_WIDTH, "─"))
            continue
        cells = [c.ljust(w) if t in _LEFT else c.rjust(w) for c, w, t in zip(row.cells, widths, titles)]
        line = "".join(cell + "  " for cell in cells)
        indent = len(line)
        for i, piece in enumerate(row.pieces):
            if i and len(line) + len(piece) > _WIDTH:
                lines.append(line.rstrip())
                line = " " * indent
            line += piece + " "
        lines.append(line.rstrip())
    return lines
