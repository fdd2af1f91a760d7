"""What is drawn as one: the calls of modules, and parts of what is too long to be read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fastbp.graph.nodes import Edge, Node
from fastbp.graph.notes import Scope

MOST = 24  # members of a group: what is still read at a glance; longer ones are divided


@dataclass(eq=False)
class Group:
    """A call of a module, or a run of neighbours, as a tree. In forward order a group is one piece without gaps."""

    title: str
    kind: str  # the class of the module; "" for a run
    members: list[Group | Node] = field(default_factory=list)
    parent: Group | None = None
    index: int = 0  # in the order in which groups begin

    def nodes(self) -> Iterator[Node]:
        """All nodes inside, in forward order."""
        rest: list[Group | Node] = [self]
        while rest:
            item = rest.pop()
            if isinstance(item, Node):
                yield item
            else:
                rest += reversed(item.members)

    def groups(self) -> Iterator[Group]:
        """This group and all inside."""
        rest = [self]
        while rest:
            group = rest.pop()
            yield group
            rest += [member for member in reversed(group.members) if isinstance(member, Group)]


def tree_of(nodes: Sequence[Node]) -> Group:
    """The group of all nodes."""
    root = Group("", "")
    home = _by_modules(root, nodes)
    _add_leaves(root, nodes, home)
    _simplify(root)
    for index, group in enumerate(root.groups()):
        group.index = index
    return root


def unfolded(root: Group, most: int) -> set[Group]:
    """The groups that are drawn open, level by level, so that at most so many nodes and folded groups are drawn."""
    level, opened = [root], {root}
    drawn = len(root.members)
    while level := [member for group in level for member in group.members if isinstance(member, Group)]:
        drawn += sum(len(group.members) - 1 for group in level)
        if drawn > most:
            break
        opened |= set(level)
    return opened


def drawn(root: Group, opened: set[Group]) -> list[Group | Node]:
    """What is seen when those groups are open: nodes and folded groups, in forward order."""
    found: list[Group | Node] = []
    rest: list[Group | Node] = [root]
    while rest:
        item = rest.pop()
        if isinstance(item, Group) and item in opened:
            rest += reversed(item.members)
        else:
            found.append(item)
    return found


@dataclass
class Crossing:
    """A folded group as one operation: its nodes, what comes in and goes out, and the tensors that it alone uses."""

    operations: list[Node]
    leaves: list[Node]
    incoming: list[Edge]
    outgoing: list[Edge]

    @property
    def outputs(self) -> list[Node]:
        """The operations whose results are used outside, or nowhere."""
        used = {edge.source.index for edge in self.outgoing}
        return [node for node in self.operations if node.index in used or not node.uses]


def crossing(group: Group) -> Crossing:
    """What a folded group stands for."""
    nodes = list(group.nodes())
    inside = {node.index for node in nodes}
    return Crossing(
        [node for node in nodes if node.kind == "operation"],
        [node for node in nodes if node.kind != "operation"],
        [edge for node in nodes for edge in node.inputs if edge.source.index not in inside],
        [edge for node in nodes for edge in node.uses if edge.target.index not in inside],
    )


# ---------------------------------------------------------------- the tree


def _by_modules(root: Group, nodes: Sequence[Node]) -> dict[int, Group]:
    """Puts operations into groups by the calls that made them; returns each one's group by its index."""
    groups: dict[Scope | None, Group] = {None: root}
    home: dict[int, Group] = {}
    for node in nodes:
        if node.kind != "operation":
            continue
        path: list[Scope] = []
        scope = node.scope
        while scope not in groups:
            path.append(scope)
            scope = scope.parent
        for inner in reversed(path):
            parent = groups[inner.parent]
            groups[inner] = Group(inner.label, inner.kind, parent=parent)
            parent.members.append(groups[inner])
        home[node.index] = groups[node.scope]
        groups[node.scope].members.append(node)
    return home


def _add_leaves(root: Group, nodes: Sequence[Node], home: dict[int, Group]) -> None:
    """Puts inputs outside, parameters and constants into the smallest group with all their uses, before the first."""
    before: dict[int, list[Node]] = {}  # by id of the member that they come before
    for node in nodes:
        if node.kind == "operation":
            continue
        paths = [_path(home[edge.target.index]) for edge in node.uses]
        shared = paths[0][:1]
        if node.kind != "input":
            for depth, group in enumerate(paths[0]):
                if any(depth >= len(path) or path[depth] is not group for path in paths):
                    break
                shared = paths[0][: depth + 1]
        first = min(node.uses, key=lambda edge: edge.target.time).target
        path = _path(home[first.index])
        member = path[len(shared)] if len(path) > len(shared) else first
        before.setdefault(id(member), []).append(node)
    for group in root.groups():
        group.members = [each for member in group.members for each in (*before.get(id(member), ()), member)]


def _path(group: Group) -> list[Group]:
    """The groups from the outermost to this one."""
    path = [group]
    while path[-1].parent is not None:
        path.append(path[-1].parent)
    return path[::-1]


def _simplify(root: Group) -> None:
    """Takes groups away that hold one thing, numbers those of one title, and divides the long ones."""
    for group in reversed(list(root.groups())):  # from the inside out
        group.members = [
            member.members[0] if isinstance(member, Group) and len(member.members) == 1 else member
            for member in group.members
        ]
        counts: dict[str, int] = {}
        for member in group.members:
            if isinstance(member, Group):
                member.parent = group
                counts[member.title] = counts.get(member.title, 0) + 1
                if counts[member.title] > 1:
                    member.title += f" ({counts[member.title]})"
        _divide(group)


def _divide(group: Group) -> None:
    """Divides more than MOST members into runs of equal length, and those again, so that all levels are alike."""
    if len(group.members) <= MOST:
        return
    levels = math.ceil(math.log(len(group.members), MOST) - 1e-9)
    length = math.ceil(len(group.members) ** (1 - 1 / levels))
    members, group.members = group.members, []
    for start in range(0, len(members), length):
        run = Group("", "", members[start : start + length], group)
        for member in run.members:
            if isinstance(member, Group):
                member.parent = run
        run.title = _span(run.members)
        _divide(run)
        group.members.append(run)


def _span(members: Sequence[Group | Node]) -> str:
    """The first and the last of what is in a run: operations or groups, or leaves where there is nothing else."""
    names = [m.title if isinstance(m, Group) else m.name for m in members if isinstance(m, Group) or m.operation]
    names = names or [m.name for m in members if isinstance(m, Node)]
    first, last = names[0].split(" … ")[0], names[-1].split(" … ")[-1]
    return first if first == last else f"{first} … {last}"
