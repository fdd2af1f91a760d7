"""From notes to nodes: views folded into what is beside them, names for all, rules in symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastbp.graph.capture import Capture
from fastbp.graph.local import Names, expression, gradient_symbol, is_elementwise, local_symbol, rule_of
from fastbp.graph.nodes import Edge, Node, Visit
from fastbp.graph.notes import Arrival, Leaf, Operation
from fastbp.graph.value import Value, number

Item = Leaf | Operation
Place = tuple[Item, int]  # an output of an operation, or a leaf

_SHAPES = ("Reshape", "Permute")  # the same elements seen in another shape
_KINDS = ("Cast", "Alias")  # the same elements in the same places


def nodes_of(capture: Capture, given: Mapping[Place, str], views: bool) -> list[Node]:
    """The nodes of a picture in forward order. given: names of places. views: whether views are nodes of their own."""
    return _Build(capture, given, views).nodes()


@dataclass
class _Use:
    """A place that an operation takes, and the views through which it sees it, from the source on."""

    item: Item
    output: int
    views: list[Operation]


class _Build:
    def __init__(self, capture: Capture, given: Mapping[Place, str], views: bool) -> None:
        self.items = capture.items
        self.given = given
        self.named = {item for item, _ in given}
        self.uses: dict[Item, list[tuple[Operation, int]]] = {item: [] for item in self.items}
        for item in self.items:
            if isinstance(item, Operation):
                for position, source in enumerate(item.inputs):
                    if source is not None:
                        self.uses[source[0]].append((item, position))
        self.tail: dict[Item, Operation] = {}  # of an operation: the view of its result that stands for it
        self.head: dict[Item, Operation] = {}  # the other way round
        self.folded: set[Item] = set()  # views that are part of an edge
        if not views:
            self._merge_results()
            self._fold_inputs()

    # ------------------------------------------------------------ views

    def _merge_results(self) -> None:
        """A product's reshaped result is its result: in q = W @ x no other node stands between W, x and q."""
        for view in self.items:
            if not isinstance(view, Operation) or not _is_view(view, ("Reshape", *_KINDS)):
                continue
            ((source, _),) = _sources(view)
            if _is_hooked(source):
                continue
            owner = self.head.get(source, source)
            alone = len(self.uses[source]) == 1 and len(source.values) == 1 and source not in self.named
            if isinstance(owner, Operation) and alone and owner.scope is view.scope and not _by_element(owner):
                if _is_view(owner, _SHAPES + _KINDS):
                    continue
                self.tail[owner], self.head[view] = view, owner

    def _fold_inputs(self) -> None:
        """A view that nothing else uses is part of the edge to what uses it, where shapes do not matter there."""
        target: dict[Item, Operation] = {}
        for view in reversed(self.items):
            if not isinstance(view, Operation) or not _is_view(view, _SHAPES + _KINDS):
                continue
            if view in self.head or view in self.named or len(self.uses[view]) != 1 or _is_hooked(view):
                continue
            user = self.uses[view][0][0]
            end = target.get(user, user)
            if end in self.head or (_is_view(view, _SHAPES) and _by_element(end)):
                continue
            self.folded.add(view)
            target[view] = end

    def _resolved(self, source: Place) -> _Use:
        item, output = source
        views: list[Operation] = []
        while item in self.folded and isinstance(item, Operation):
            views.insert(0, item)
            ((item, output),) = _sources(item)
        return _Use(self.head.get(item, item), output, views)

    # ------------------------------------------------------------ nodes

    def nodes(self) -> list[Node]:
        shown = [item for item in self.items if item not in self.folded and item not in self.head]
        names = self._all_names(shown)
        nodes: dict[Item, Node] = {}
        for index, item in enumerate(shown):
            node = Node(index, names[item][0], "operation", "", "", "", "", item.time, (), names[item])
            nodes[item] = node
            if isinstance(item, Leaf):
                node.kind = self._kind(item)
                node.values = tuple(item.values)
                node.visits = [
                    Visit(a.time, a.number, tuple(a.values), unhooked=tuple(a.unhooked)) for a in item.arrivals
                ]
            else:
                self._operation(node, item, nodes)
        return list(nodes.values())

    def _kind(self, leaf: Leaf) -> str:
        """What a leaf is called: a tensor that has a name is an input, also where no gradient is asked for."""
        if leaf.kind == "constant" and leaf in self.named:
            return "input"
        return "constant" if leaf.kind == "number" else leaf.kind

    def _operation(self, node: Node, item: Operation, nodes: Mapping[Item, Node]) -> None:
        end = self.tail.get(item, item)
        rule = rule_of(item.function)
        node.operation = item.function.__name__
        node.words = rule.words if rule else ""
        node.scope = item.scope
        node.module = item.scope.label if item.scope is not None else ""
        node.values = tuple(end.values)
        uses = [None if source is None else self._resolved(source) for source in item.inputs]
        operands, shapes = [], []
        for use in uses:
            if use is None:
                continue
            operands.append(nodes[use.item].output_names[use.output] + ("ᵀ" if _is_transposed(use.views) else ""))
            shapes.append(_shape(use.views[-1].values[0] if use.views else self._value(use)))
        positions = [position for position, use in enumerate(uses) if use is not None]
        detail = item.detail | end.detail  # a view that stands for its source may say what the two are together
        symbols = Names(operands, node.output_names[0], detail, shapes, _shape(item.values[0]))
        node.expression = expression(item.function, symbols)
        for k, position in enumerate(positions):
            use = uses[position]
            assert use is not None
            edge = Edge(nodes[use.item], use.output, node, position, tuple(_seen(view) for view in use.views))
            edge.local = local_symbol(item.function, symbols, k)
            edge.gradient = gradient_symbol(item.function, symbols, k, _is_transposed(use.views))
            node.inputs.append(edge)
            nodes[use.item].uses.append(edge)
        ends = {a.number: a for a in end.arrivals}
        node.visits = [
            Visit(
                a.time,
                a.number,
                tuple(ends.get(a.number, a).values),
                tuple(self._back(use, value) for use, value in zip(uses, a.local)),
                tuple(self._arrived(use, value, a) for use, value in zip(uses, a.sent)),
                tuple(ends.get(a.number, a).unhooked),
            )
            for a in item.arrivals
        ]

    def _value(self, use: _Use) -> Value | None:
        end = self.tail.get(use.item, use.item)
        return end.values[use.output]

    def _back(self, use: _Use | None, value: Value | None) -> Value | None:
        """A local derivative in the shape of what was seen through views."""
        if use is None or value is None:
            return value
        for view in reversed(use.views):
            if view.function.__name__ == "Reshape":
                ((source, output),) = _sources(view)
                value = value.reshaped(_shape(source.values[output]))
            elif view.function.__name__ == "Permute":
                dims = list(view.detail["dims"])
                value = value.permuted(sorted(range(len(dims)), key=dims.__getitem__))
        return value

    def _arrived(self, use: _Use | None, value: Value | None, visit: Arrival) -> Value | None:
        """What was sent, as it came out of the views on the way."""
        if use is None or value is None or not use.views:
            return value
        return next((a.sent[0] for a in use.views[0].arrivals if a.number == visit.number and a.sent), None)

    # ------------------------------------------------------------ names

    def _all_names(self, shown: list[Item]) -> dict[Item, tuple[str, ...]]:
        """A name for each output: the one given, the number itself, or a letter and a number: v1, v2, … for results."""
        places = [(item, i) for item in shown for i in range(len(item.values))]
        names: dict[Place, str] = {}
        taken: set[str] = set()
        for item, i in places:
            end = self.tail.get(item, item)
            if (name := self.given.get((end, i)) or self.given.get((item, i))) is not None:
                base, count = name, 1
                while name in taken:
                    count += 1
                    name = f"{base} ({count})"
                names[item, i] = name
                taken.add(name)
        counts: dict[str, int] = {}
        for item, i in places:
            if (item, i) in names:
                continue
            if item.values[i] is None:  # an output that is no tensor
                names[item, i] = "_"
                continue
            if isinstance(item, Leaf) and (constant := _constant(item)) is not None:
                names[item, i] = constant
                continue
            letter = {"parameter": "w", "constant": "c", "input": "x"}[item.kind] if isinstance(item, Leaf) else "v"
            name = ""
            while not name or name in taken:
                counts[letter] = counts.get(letter, 0) + 1
                name = f"{letter}{counts[letter]}"
            names[item, i] = name
        return {item: tuple(names[item, i] for i in range(len(item.values))) for item in shown}


def _constant(leaf: Leaf) -> str | None:
    """A number's name is the number."""
    value = leaf.values[0]
    if leaf.kind not in ("number", "constant") or value is None or value.array is None or value.shape != ():
        return None
    return number(value.array.item())


def _is_view(item: Operation, kinds: tuple[str, ...]) -> bool:
    return item.function.__name__ in kinds and item.function.__module__.startswith("fastbp.")


def _is_hooked(item: Item) -> bool:
    """Whether a hook changed a gradient there: then the numbers before and behind it differ."""
    return any(value is not None for arrival in item.arrivals for value in arrival.unhooked)


def _by_element(item: Operation) -> bool:
    """Whether gradients are products element by element, which shows only in one shape; one element has any."""
    value = item.values[0]
    return is_elementwise(item.function) and not (value is not None and value.size == 1)


def _sources(item: Operation) -> list[Place]:
    return [source for source in item.inputs if source is not None]


def _shape(value: Value | None) -> tuple[int, ...]:
    return () if value is None else value.shape


def _seen(view: Operation) -> str:
    """How a view shows its source."""
    kind, value = view.function.__name__, view.values[0]
    if kind == "Cast":
        return f"as {value.dtype}" if value else ""
    if kind == "Permute":
        return "ᵀ" if _is_transposed([view]) else f"permuted {tuple(view.detail['dims'])}"
    return f"as {_shape(value)}" if kind == "Reshape" else "as it is"


def _is_transposed(views: list[Operation]) -> bool:
    """Whether the last two dimensions have changed places, and nothing else."""
    swapped = False
    for view in views:
        if view.function.__name__ == "Permute":
            dims = list(view.detail["dims"])
            last = len(dims) - 1
            if dims != [*range(last - 1), last, last - 1]:
                return False
            swapped = not swapped
        elif view.function.__name__ == "Reshape":
            return False
    return swapped
