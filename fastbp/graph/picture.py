"""The picture of a computation: its nodes and edges, their names, and what draws them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastbp.graph import dot, page, text
from fastbp.graph.build import nodes_of
from fastbp.graph.capture import Capture
from fastbp.graph.fold import Group, tree_of
from fastbp.graph.nodes import Edge, Node
from fastbp.graph.notes import Leaf, Operation
from fastbp.tensor import Tensor


class Picture:
    """What `fastbp.explain` gives: every node of the graph with its value and its gradients.

    nodes: in forward order, each after what it takes. `picture["y"]` is a node by name. passes: how many backward
    passes ran; the nodes keep what each of them brought. str, svg() and html() draw it; save(path) writes a file.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._closed = False
        self._error = ""  # the class of the exception that ended the block
        self._views = False
        self._names: dict[tuple[Leaf | Operation, int], str] = {}  # given by `name`
        self._found: dict[tuple[Leaf | Operation, int], str] = {}  # of arguments, parameters and variables
        self._nodes: list[Node] | None = None
        self.title = "Computational graph"
        self.description = ""  # a sentence for those who see the page

    # ------------------------------------------------------------ the data

    @property
    def nodes(self) -> list[Node]:
        if not self._closed:
            raise RuntimeError("[explain] the picture is complete when the block is left; look at it there")
        if not self._capture.items:
            raise RuntimeError(
                "[explain] expected operations on tensors that require grad, got none"
                + (f" before the block ended with {self._error}" if self._error else "")
            )
        if self._nodes is None:
            self._nodes = nodes_of(self._capture, {**self._found, **self._names}, self._views)
        return self._nodes

    @property
    def edges(self) -> list[Edge]:
        return [edge for node in self.nodes for edge in node.inputs]

    @property
    def passes(self) -> int:
        return self._capture.passes

    @property
    def tree(self) -> Group:
        """The nodes by modules, and long runs of them in parts: what the renderings fold."""
        return tree_of(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if name in node.output_names:
                return node.of_output(node.output_names.index(name))
        raise KeyError(f"[picture] expected the name of a node, got {name!r}")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def name(self, /, **tensors: Tensor) -> Picture:
        """Names tensors: `picture.name(x=x, y=y)`, in the block or after it. Returns the picture.

        TypeError for what is no tensor, ValueError for a tensor that took no part so far.
        """
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise TypeError(f"[name] expected {name} as a tensor, got {type(tensor).__name__}")
            places = self._capture.places_of(tensor)
            if not places:
                raise ValueError(f"[name] expected tensors of the picture, got {name}, which took no part in it")
            self._names |= dict.fromkeys(places, name)
        self._nodes = None
        return self

    def with_views(self) -> Picture:
        """The same picture, in which reshapes, transposes and casts are nodes of their own."""
        other = Picture(self._capture)
        other._closed, other._error, other._views = self._closed, self._error, True
        other.title, other.description = self.title, self.description
        other._names, other._found = dict(self._names), self._found
        return other

    # ------------------------------------------------------------ what draws it

    @property
    def _remark(self) -> str:
        """What is to be known of a picture that is not of the whole block."""
        return f"The block ended with {self._error}: this is what ran before." if self._error else ""

    def __str__(self) -> str:
        return text.text(self.nodes, self.passes, self._remark)

    def __repr__(self) -> str:
        if not self._closed:
            return "<picture of a block that is still running>"
        return str(self) if self._capture.items else "<picture of a block without operations>"

    def dot(self) -> str:
        """The graph in graphviz's language."""
        return dot.dot(self.nodes, self.passes, self._remark)

    def svg(self) -> str:
        """The graph as an SVG image, drawn by graphviz: RuntimeError naming what to install where that is missing."""
        return dot.svg(self.dot())

    def html(self) -> str:
        """One page without anything outside of it, on which the steps forward and backward can be walked."""
        description = " ".join(filter(None, (self._remark, self.description)))
        return page.page(self.nodes, self.passes, self.title, description)

    def _repr_svg_(self) -> str | None:
        try:
            return self.svg()
        except RuntimeError:  # notebooks show the text then
            return None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file: .html, .svg, .txt or .dot. ValueError for another ending, TypeError for what is no path."""
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"[save] expected a file name as str or PathLike, got {type(path).__name__}")
        kinds = {".html": self.html, ".svg": self.svg, ".txt": self.__str__, ".dot": self.dot}
        suffix = Path(path).suffix.lower()
        if suffix not in kinds:
            raise ValueError(f"[save] expected a file name ending in {', '.join(kinds)}, got {os.fspath(path)!r}")
        text = kinds[suffix]()
        Path(path).write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
