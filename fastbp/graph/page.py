"""A picture as one page: what is drawn, computed here, and the files that draw it, put together."""

from __future__ import annotations

import html
import json
from importlib import resources
from string import Template
from typing import Any

from fastbp.graph.fold import Group, tree_of, unfolded
from fastbp.graph.local import d
from fastbp.graph.nodes import Edge, Node, Visit
from fastbp.graph.value import Value

_SCRIPTS = "layout.js", "story.js", "details.js", "page.js"
MOST = 80  # nodes and folded groups that are drawn at first


def page(nodes: list[Node], passes: int, title: str, description: str) -> str:
    """The page as text. It has no reference to anything outside, and its own rule forbids any."""
    folder = resources.files("fastbp.graph") / "assets"

    def read(name: str) -> str:
        return (folder / name).read_text("utf-8")

    data = {"title": title, "description": description, "passes": passes, **_data(nodes)}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Template(read("page.html")).substitute(
        title=html.escape(title),
        style=read("page.css"),
        data=text.replace("<", "\\u003c"),  # a script element ends at "</script", wherever that stands
        script="".join(map(read, _SCRIPTS)),
    )


def _data(nodes: list[Node]) -> dict[str, Any]:
    """Nodes, edges, what happened when, groups: what page.js starts from."""
    edges = [edge for node in nodes for edge in node.inputs]
    at = {id(edge): index for index, edge in enumerate(edges)}
    root = tree_of(nodes)
    return {
        "nodes": [_node(node) for node in nodes],
        "edges": [_edge(edge) for edge in edges],
        "events": _events(nodes, at),
        "root": _group(root),
        "open": [group.index for group in unfolded(root, MOST)],
    }


def _node(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": node.name,
        "names": node.output_names,
        "gradients": [d(name) for name in node.output_names],
        "kind": node.kind,
    }
    data["values"] = [_value(value) for value in node.values]
    if node.operation:
        data |= {"operation": node.operation, "expression": node.expression, "words": node.words, "module": node.module}
    else:
        # Of a leaf no event tells what arrived in all.
        data["arrived"] = [
            {"pass": visit.number, "upstream": [_value(visit.upstream[0])], **_arrival(node, visit)}
            for visit in node.visits
        ]
    return data


def _arrival(node: Node, visit: Visit) -> dict[str, Any]:
    """For each output, whether what was sent there adds up to what arrived, and what a hook made of that."""
    seen = [node.of_output(i) for i in range(len(node.values))]
    return {"adds": [bool(each.parts(visit)) for each in seen], "hooks": [each.hook(visit) for each in seen]}


def _edge(edge: Edge) -> dict[str, Any]:
    slope = f"∂{edge.target.name}/∂{edge.name} = {edge.local}" if edge.local else ""
    rule = f"{d(edge.name)} = {edge.gradient}" if edge.gradient else ""
    ends = {"source": edge.source.index, "output": edge.output, "target": edge.target.index}
    return {**ends, "name": edge.name, "views": ", ".join(edge.views), "slope": slope, "rule": rule}


def _events(nodes: list[Node], at: dict[int, int]) -> list[dict[str, Any]]:
    """What happened in the order of time: an operation computed (pass 0), or a backward pass came by."""
    events: list[tuple[int, dict[str, Any]]] = []
    for node in nodes:
        if not node.operation:
            continue
        events.append((node.time, {"node": node.index, "pass": 0}))
        for visit in node.visits:
            upstream = [_value(value) for value in visit.upstream]
            sent = [
                [at[id(e)], _value(visit.local[e.position]), _value(value)]
                for e in node.inputs
                if (value := e.sent(visit))
            ]
            event = {"node": node.index, "pass": visit.number, "upstream": upstream, "sent": sent}
            events.append((visit.time, event | _arrival(node, visit)))
    return [event for _, event in sorted(events, key=lambda each: each[0])]


def _group(root: Group) -> dict[str, Any]:
    """A group as {title, kind, members}, of which members are indices of nodes, or groups."""
    made: dict[int, dict[str, Any]] = {}
    for group in reversed(list(root.groups())):  # members before the group that holds them
        members = [member.index if isinstance(member, Node) else made[member.index] for member in group.members]
        made[group.index] = {"index": group.index, "title": group.title, "kind": group.kind, "members": members}
    return made[root.index]


def _value(value: Value | None) -> Any:
    """A number as text; an array as text and rows; a larger one as shape, facts and histogram."""
    if value is None:
        return None
    if value.summary is not None:
        data = {"shape": str(value.shape), "dtype": value.dtype, "facts": value.facts(), "bars": value.summary.counts}
    elif value.shape == () and value.finite:
        return str(value)
    else:
        data = {"shape": str(value.shape), "dtype": value.dtype, "text": str(value)}
        if value.size > 1:
            data["rows"] = value.rows()
    return data if value.finite else {**data, "bad": True}
