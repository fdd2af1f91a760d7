"""A picture in graphviz's language, and as SVG by its `dot`."""

from __future__ import annotations

import html
from collections.abc import Iterable

from fastbp.graph.fold import Group, crossing, drawn, tree_of, unfolded
from fastbp.graph.local import d
from fastbp.graph.nodes import Edge, Node, Visit
from fastbp.graph.value import Value

MOST = 150  # nodes; of a larger graph modules and runs of nodes are drawn as one
_VALUE, _GRADIENT, _QUIET = "#005a9c", "#a84300", "#5c6570"  # apart for the colour-blind, too
_FILL = {"operation": "#eef3f8", "parameter": "#f3eefa", "input": "#eef8f0", "constant": "#f5f5f3", "group": "#e4ebf3"}
_FONT = 'fontname="Helvetica,Arial,sans-serif"'
_LONG = 60  # characters of a line that is still drawn
_ACROSS = 5  # edges one after the other that fit across a page; longer graphs go down


def dot(nodes: list[Node], passes: int, remark: str) -> str:
    """The graph: values in blue, gradients in orange, on the edges upstream × local = downstream.

    Where several backward passes came by a node, what the last of them brought. remark: a sentence below.
    """
    root = tree_of(nodes)
    edges = [edge for node in nodes for edge in node.inputs]
    opened = unfolded(root, MOST)
    place = {
        node.index: f"group{item.index}" if isinstance(item, Group) else f"node{item.index}"
        for item in drawn(root, opened)
        for node in ([item] if isinstance(item, Node) else item.nodes())
    }
    direction = "LR ranksep=0.6" if _depth(edges, place) <= _ACROSS else "TB ranksep=0.4"
    lines = [
        "digraph picture {",
        f"rankdir={direction} bgcolor=white nodesep=0.3 {_FONT}",
        f'node [shape=box style="rounded,filled" penwidth=0.8 color="#7d8894" margin="0.12,0.06" {_FONT} fontsize=13]',
        f'edge [color="#7d8894" arrowsize=0.7 {_FONT} fontsize=11 fontcolor="{_GRADIENT}"]',
        *([f"label=<{html.escape(remark)}>"] if remark else []),
        *_group(root, opened, passes),
        *_edges(edges, place, passes),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _depth(edges: Iterable[Edge], place: dict[int, str]) -> int:
    """The number of edges on the longest way through what is drawn."""
    depth: dict[str, int] = {}
    for edge in edges:  # in forward order, and so is what they leave
        source, target = place[edge.source.index], place[edge.target.index]
        if source != target:
            depth[target] = max(depth.get(target, 0), depth.get(source, 0) + 1)
    return max(depth.values(), default=0)


def svg(source: str) -> str:
    """A graph in graphviz's language as SVG. RuntimeError where the package graphviz or its program is missing."""
    try:
        import graphviz
    except ImportError:
        raise RuntimeError('[svg] expected the package graphviz, got none; `pip install "fastbp[graph]"`') from None
    try:
        return graphviz.Source(source).pipe("svg", encoding="utf-8")
    except graphviz.ExecutableNotFound:
        raise RuntimeError(
            "[svg] expected graphviz's program dot, got none; install graphviz (apt install graphviz, brew install "
            "graphviz, or from graphviz.org)"
        ) from None


def _group(group: Group, opened: set[Group], passes: int) -> Iterable[str]:
    """The members of an open group: nodes, folded groups, and open ones as boxes."""
    for member in group.members:
        if isinstance(member, Node):
            yield f"node{member.index} [{_label(_node_lines(member, passes))} {_style(member.kind)}]"
        elif member not in opened:
            yield f"group{member.index} [{_label(_folded_lines(member, passes))} {_style('group')} peripheries=2]"
        else:
            title = html.escape(member.title + (f": {member.kind}" if member.kind not in ("", member.title) else ""))
            yield f"subgraph cluster{member.index} {{"
            yield f'label=<{title}> labeljust=l style=rounded color="#b4bdc7" fontcolor="{_QUIET}" fontsize=12'
            yield from _group(member, opened, passes)
            yield "}"


def _node_lines(node: Node, passes: int) -> list[str]:
    title = f"<B>{_text(node.label)}</B>" + (f" = {_text(node.expression)}" if node.operation else "")
    if node.kind == "constant" and node.name == str(node.value):
        return [title]
    lines = [title, *(line for value in node.values if value is not None for line in _value_lines(value))]
    return lines + (_gradient_lines(node, node.visits[-1], passes) if node.visits else [])


def _gradient_lines(node: Node, visit: Visit, passes: int) -> list[str]:
    """What arrived, and where that is the sum of several, of which."""
    mark = f"pass {visit.number}: " if passes > 1 else ""
    lines = []
    for output, (name, value) in enumerate(zip(node.output_names, visit.upstream)):
        if value is None:
            continue
        seen = node.of_output(output)
        parts, hook = seen.parts(visit), seen.hook(visit)
        if not hook and 1 < len(parts) <= 4 and all(part.size == 1 for part in parts):
            lines.append(_coloured(f"{mark}{d(name)} = {' + '.join(map(str, parts))} = {value}", _GRADIENT))
        else:
            lines += _lines(f"{mark}{d(name)} = ", value, _GRADIENT)
        if hook:
            lines.append(_coloured(hook, _GRADIENT))
    return lines


def _folded_lines(group: Group, passes: int) -> list[str]:
    inside = crossing(group)
    lines = [f"<B>{_text(group.title)}</B>" + (f" {_text(group.kind)}" if group.kind not in ("", group.title) else "")]
    what = f"{len(inside.operations):,} operations" if inside.operations else f"{len(inside.leaves):,} tensors"
    lines.append(_coloured(what, _QUIET))
    for node in inside.outputs[:1]:
        lines += [line for value in node.values[:1] if value is not None for line in _value_lines(value)]
        if node.visits:
            lines += _gradient_lines(node, node.visits[-1], passes)
    return lines


def _edges(edges: Iterable[Edge], place: dict[int, str], passes: int) -> Iterable[str]:
    """An edge for each use; between two of which one is folded, one for all."""
    seen: set[tuple[str, str]] = set()
    for edge in edges:
        ends = place[edge.source.index], place[edge.target.index]
        single = ends[0].startswith("node") and ends[1].startswith("node")
        if ends[0] == ends[1] or (not single and ends in seen):
            continue
        seen.add(ends)
        lines = _edge_lines(edge) if single else []
        yield f"{ends[0]} -> {ends[1]}" + (f" [{_label(lines)}]" if lines else "")


def _edge_lines(edge: Edge) -> list[str]:
    """upstream × local = downstream, or the rule and what it gave."""
    views = ", ".join(view for view in edge.views if view != "ᵀ")  # which the expression shows
    views = f"{edge.name} {views}".rstrip() if len(edge.source.values) > 1 else views
    lines = [_coloured(views, _QUIET)] if views else []
    visit = edge.target.visits[-1] if edge.target.visits else None
    value = edge.sent(visit) if visit is not None else None
    if visit is None or value is None:
        return lines
    local, upstream = visit.local[edge.position], visit.upstream[0]
    product = f"{upstream} × {local} = {value}"
    if local is not None and len(product) <= _LONG:
        return [*lines, f"&#160;{_text(product)}&#160;"]
    if local is not None and local.array is not None:
        lines += _lines("local ", local, _GRADIENT)
    rule = f"= {edge.gradient}" if edge.gradient and len(edge.gradient) <= _LONG else "="
    if value.summary is not None:
        return [*lines, _text(rule), _text(value.facts()[0])]
    return [*lines, _text(rule), *_lines("", value, _GRADIENT)]


def _value_lines(value: Value) -> list[str]:
    return _lines("", value, _VALUE)


def _lines(before: str, value: Value, colour: str) -> list[str]:
    """A value as lines: on one where it fits, a matrix as rows, a larger tensor as facts and histogram."""
    if value.summary is not None:
        facts = [f"{before}{value.shape}", ", ".join(value.facts())]
        bars = [f'<FONT COLOR="{colour}" POINT-SIZE="8">{value.bars()}</FONT>'] if value.bars() else []
        return [*(_coloured(fact, colour) for fact in facts), *bars]
    if len(before) + len(str(value)) <= 24:
        return [_coloured(f"{before}{value}", colour)]
    head = [_coloured(before.rstrip(" "), colour)] if before else []
    return [*head, *(_coloured(row, colour, ' FACE="DejaVu Sans Mono,monospace"') for row in value.rows())]


def _coloured(text: str, colour: str, face: str = "") -> str:
    return f'<FONT COLOR="{colour}"{face}>{_text(text)}</FONT>'


def _text(text: str) -> str:
    """Escaped, with the spaces that align columns kept."""
    return html.escape(text).replace("  ", "&#160;&#160;")


def _label(lines: Iterable[str]) -> str:
    return f"label=<{'<BR/>'.join(lines)}>"


def _style(kind: str) -> str:
    return f'fillcolor="{_FILL[kind]}"'
