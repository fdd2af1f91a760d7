"""A picture as text: what every node computes, then what the gradient does there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastbp.graph.fold import Group, crossing, drawn, tree_of, unfolded
from fastbp.graph.local import d
from fastbp.graph.nodes import Node, Visit
from fastbp.graph.value import Value

MOST = 300  # nodes; of a larger graph modules and runs of nodes are one block
_COLUMN = 24  # where values stand, unless names are longer
_PARTS = 4  # of a sum that are written out
_PRODUCT = 70  # characters of upstream × local = downstream on one line


def text(nodes: list[Node], passes: int, remark: str) -> str:
    """Forward in the order of computation, then each backward pass in its own, then the gradients of the leaves.

    remark: a sentence at the end.
    """
    root = tree_of(nodes)
    items = drawn(root, unfolded(root, MOST))
    rows = [("Forward",), *(_forward(item) for item in items if not _says_itself(item))]
    if not passes:
        rows += [(), ("No backward pass ran, so there are no gradients.",)]
    for number in range(1, passes + 1):
        title = "Backward" if passes == 1 else f"Backward pass {number}"
        rows += [(), (f"{title}: downstream = upstream × local",)]
        for item in sorted(items, key=lambda item: _when(item, number)):
            rows += _backward(item, number)
        rows += [(), ("Gradients" if passes == 1 else f"Gradients of pass {number}",)]
        rows += _gradients(nodes, items, number)
    if remark:
        rows += [(), (remark,)]
    return "\n".join(_aligned(rows))


def _says_itself(item: Group | Node) -> bool:
    """Whether an item is a number, whose name is its value."""
    return isinstance(item, Node) and item.kind == "constant" and item.name == str(item.value)


def _forward(item: Group | Node) -> tuple[str, ...]:
    if isinstance(item, Node):
        label = f"{item.label} = {item.expression}" if item.operation else item.label
        kind = "" if item.operation or item.kind == "constant" else item.kind
        return f"  {label}", _values(item.values), kind
    inside = crossing(item)
    shown = ", ".join(f"{node.label} = {_values(node.values)}" for node in inside.outputs[:2])
    more = f", … {len(inside.outputs) - 2} more" if len(inside.outputs) > 2 else ""
    return f"  [{_title(item)}]", (f"{shown}{more}" if shown else _count(inside.leaves, "tensor")), _contents(item)


def _backward(item: Group | Node, number: int) -> list[tuple[str, ...]]:
    if isinstance(item, Node):
        return [row for visit in _of_pass(item, number) if item.operation for row in _visited(item, visit)]
    inside = crossing(item)
    visited = [(node, visit) for node in inside.outputs for visit in _of_pass(node, number)]
    if not visited:
        return []
    rows: list[tuple[str, ...]] = [
        (f"  [{_title(item)}]", f"{', '.join(map(d, n.output_names))} = {_values(v.upstream)}") for n, v in visited[:2]
    ]
    edges = [*inside.incoming, *(edge for leaf in inside.leaves for edge in leaf.uses)]
    sent = [(edge, value) for edge in edges for v in _of_pass(edge.target, number) if (value := edge.sent(v))]
    rows += [(f"    to {edge.name}", f"{d(edge.name)} = {value}") for edge, value in sent[:4]]
    return rows + ([(f"    … and {len(sent) - 4} more",)] if len(sent) > 4 else [])


def _visited(node: Node, visit: Visit) -> Iterator[tuple[str, ...]]:
    upstream = _values(visit.upstream)
    names = ", ".join(d(name) for name in node.output_names)
    yield f"  {node.label} = {node.expression}", f"{names} = {upstream}", _hooks(node, visit)
    for edge in node.inputs:
        value = edge.sent(visit)
        if value is None:
            continue
        local = visit.local[edge.position]
        name = d(edge.name)
        seen = "".join(f" {view}" for view in edge.views if view != "ᵀ")  # which the expression shows
        rule = f"{name} = {edge.gradient}" if edge.gradient else ""
        slope = f"∂{node.name}/∂{edge.name} = {edge.local}" if edge.local and local is not None else ""
        product = f"{upstream} × {local} = {value}"
        if local is not None and len(product) <= _PRODUCT:
            yield f"    to {edge.name}{seen}", product, slope or rule
        else:
            yield f"    to {edge.name}{seen}", f"{name} = {value}", rule
            if local is not None:
                yield "", f"local {local}", slope


def _gradients(nodes: list[Node], items: list[Group | Node], number: int) -> Iterator[tuple[str, ...]]:
    """What arrived at the leaves: at all of them, or where there are many at those that are drawn."""
    leaves = [node for node in nodes if node.kind != "operation" and _of_pass(node, number)]
    shown = leaves
    if len(leaves) > MOST:
        single = {item.index for item in items if isinstance(item, Node)}
        shown = [node for node in leaves if node.index in single]
    for node in shown:
        yield from _gradient(node, number)
    if len(shown) < len(leaves):
        yield (f"  … {len(leaves) - len(shown):,} more in the picture's nodes",)


def _gradient(node: Node, number: int) -> Iterator[tuple[str, ...]]:
    """What arrived at a leaf: what each use sent, and the sum."""
    for visit in _of_pass(node, number):
        parts = node.parts(visit)
        added = 1 < len(parts) <= _PARTS and not node.hook(visit)
        total = f"{' + '.join(map(str, parts))} = " if added else ""
        uses = len(node.arrivals(visit))
        used = f"used {uses} times" if uses > 1 else ""
        yield f"  {d(node.name)}", f"{total}{visit.upstream[0]}", ", ".join(filter(None, (used, _hooks(node, visit))))


def _hooks(node: Node, visit: Visit) -> str:
    """What hooks changed, with names where there are several outputs."""
    notes = [(name, node.of_output(i).hook(visit)) for i, name in enumerate(node.output_names)]
    return ", ".join(f"{d(name)} by {note}" if len(notes) > 1 else note for name, note in notes if note)


def _of_pass(node: Node, number: int) -> list[Visit]:
    return [visit for visit in node.visits if visit.number == number]


def _when(item: Group | Node, number: int) -> int:
    """The time of a backward pass's first visit."""
    nodes: Iterable[Node] = [item] if isinstance(item, Node) else item.nodes()
    return min((visit.time for node in nodes for visit in _of_pass(node, number)), default=0)


def _values(values: Iterable[Value | None]) -> str:
    return ", ".join("none" if value is None else str(value) for value in values)


def _title(group: Group) -> str:
    return group.title if not group.kind or group.title.startswith(group.kind) else f"{group.title} {group.kind}"


def _contents(group: Group) -> str:
    inside = crossing(group)
    return ", ".join(
        filter(
            None,
            (
                _count(inside.operations, "operation"),
                _count([n for n in inside.leaves if n.kind == "parameter"], "parameter"),
            ),
        )
    )


def _count(nodes: list[Node], what: str) -> str:
    return f"{len(nodes):,} {what}{'s' if len(nodes) > 1 else ''}" if nodes else ""


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines of two columns and a remark; what does not fit its column moves the rest of its line."""
    widths = [len(row[0]) for row in rows if len(row) > 1 and len(row[0]) <= 40]
    first = max(_COLUMN, *widths) if widths else _COLUMN
    second = max([len(row[1]) for row in rows if len(row) > 2 and row[2] and len(row[1]) <= 40], default=0)
    for row in rows:
        line = row[0] if row else ""
        if len(row) > 1:
            line = f"{line.ljust(first)}  {row[1]}"
        if len(row) > 2 and row[2]:
            line = f"{line.ljust(first + 2 + second)}   {row[2]}"
        yield line.rstrip()
