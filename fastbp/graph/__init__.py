"""The graph of a computation as a picture: `fastbp.explain`."""

from fastbp.graph.explain import explain
from fastbp.graph.nodes import Edge, Node, Visit
from fastbp.graph.picture import Picture
from fastbp.graph.value import Summary, Value

__all__ = ["Edge", "Node", "Picture", "Summary", "Value", "Visit", "explain"]
