"""What the pictures of the worked examples must show: every number, worked out by hand."""

from __future__ import annotations

import importlib.util
import math
import shutil
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastbp
from fastbp.examples import system
from fastbp.graph import Node, Picture

HAS_GRAPHVIZ = importlib.util.find_spec("graphviz") is not None
needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None or not HAS_GRAPHVIZ, reason="needs the package graphviz and its program dot"
)

# The names of the examples whose every number is known.
NAMES = [
    "gym_bill",
    "shared_node",
    "sum_times",
    "sigmoid_chain",
    "sigmoid_node",
    "vectorised",
    "two_layer_network",
]


class Sent(NamedTuple):
    """What a node sends to one of its inputs. local: None where the local derivative is a rule and no number."""

    to: str
    local: Any
    downstream: Any


class Expected(NamedTuple):
    value: Any
    upstream: Any  # None where no gradient is asked for
    sent: tuple[Sent, ...] = ()


def picture_of(name: str) -> Picture:
    return fastbp.explain(system(name))


def numbers(name: str) -> dict[str, Expected]:
    """The nodes of an example's picture by name."""
    return {
        "gym_bill": gym_bill,
        "shared_node": shared_node,
        "sum_times": sum_times,
        "sigmoid_chain": sigmoid_chain,
        "sigmoid_node": sigmoid_node,
        "vectorised": vectorised,
        "two_layer_network": two_layer_network,
    }[name]()


def gym_bill() -> dict[str, Expected]:
    return {
        "a": Expected(50, 3.6),
        "b": Expected(3, 60),
        "c": Expected(1.2, 150),
        "y": Expected(150, 1.2, (Sent("a", 3, 3.6), Sent("b", 50, 60))),
        "z": Expected(180, 1, (Sent("y", 1.2, 1.2), Sent("c", 150, 150))),
    }


def shared_node() -> dict[str, Expected]:
    return {
        "a": Expected(-1, 7),
        "b": Expected(3, 9),  # 7 + 2
        "c": Expected(4, 2),
        "x": Expected(2, 7, (Sent("a", 1, 7), Sent("b", 1, 7))),
        "y": Expected(7, 2, (Sent("b", 1, 2), Sent("c", 1, 2))),
        "f": Expected(14, 1, (Sent("x", 7, 7), Sent("y", 2, 2))),
    }


def sum_times() -> dict[str, Expected]:
    return {
        "x": Expected(-2, -4),
        "y": Expected(5, -4),
        "z": Expected(-4, 3),
        "q": Expected(3, -4, (Sent("x", 1, -4), Sent("y", 1, -4))),
        "f": Expected(-12, 1, (Sent("q", -4, -4), Sent("z", 3, 3))),
    }


def sigmoid_chain() -> dict[str, Expected]:
    f = 1 / (1 + math.exp(-1))  # 0.731059
    slope = f * (1 - f)  # 0.196612
    e = math.exp(-1)
    return {
        "w0": Expected(2, -slope),
        "w1": Expected(-3, -2 * slope),
        "w2": Expected(-3, slope),
        "x0": Expected(-1, 2 * slope),
        "x1": Expected(-2, -3 * slope),
        "v1": Expected(-2, slope, (Sent("w0", -1, -slope), Sent("x0", 2, 2 * slope))),
        "v2": Expected(6, slope, (Sent("w1", -2, -2 * slope), Sent("x1", -3, -3 * slope))),
        "v3": Expected(4, slope, (Sent("v1", 1, slope), Sent("v2", 1, slope))),
        "s": Expected(1, slope, (Sent("v3", 1, slope), Sent("w2", 1, slope))),
        "v4": Expected(-1, -slope, (Sent("s", -1, slope),)),
        "v5": Expected(e, -f * f, (Sent("v4", e, -slope),)),
        "v6": Expected(1 + e, -f * f, (Sent("v5", 1, -f * f),)),
        "f": Expected(f, 1, (Sent("v6", -f * f, -f * f),)),
    }


def sigmoid_node() -> dict[str, Expected]:
    f = 1 / (1 + math.exp(-1))
    slope = f * (1 - f)
    dw, dx = [-slope, -2 * slope, slope], [2 * slope, -3 * slope]
    return {
        "w": Expected([2, -3, -3], dw),
        "x": Expected([-1, -2], dx),
        "f": Expected(f, 1, (Sent("w", dw, dw), Sent("x", dx, dx))),
    }


def vectorised() -> dict[str, Expected]:
    dw, dx = [[0.088, 0.176], [0.104, 0.208]], [-0.112, 0.636]
    q = [0.22, 0.26]
    return {
        "w": Expected([[0.1, 0.5], [-0.3, 0.8]], dw),
        "x": Expected([0.2, 0.4], dx),
        "q": Expected(q, [0.44, 0.52], (Sent("w", None, dw), Sent("x", None, dx))),
        "v1": Expected([0.0484, 0.0676], [1, 1], (Sent("q", q, q), Sent("q", q, q))),
        "f": Expected(0.116, 1, (Sent("v1", [1, 1], [1, 1]),)),
    }


def two_layer_network() -> dict[str, Expected]:
    dz1, dw1 = [[0.19], [0.228]], [[0.19, 0.38], [0.228, 0.456]]
    dw2, error, ones = [[0.228, 0.494]], [[0.38]], [[1], [1]]
    one = [[1]]
    return {
        "x": Expected([[1], [2]], None),
        "y": Expected([[1]], None),
        "w1": Expected([[0.1, 0.2], [0.3, 0.4]], dw1),
        "b1": Expected([[0.1], [0.2]], dz1),
        "w2": Expected([[0.5, 0.6]], dw2),
        "b2": Expected([[0.3]], error),
        "v1": Expected([[0.5], [1.1]], dz1, (Sent("w1", None, dw1),)),
        "z1": Expected([[0.6], [1.3]], dz1, (Sent("v1", ones, dz1), Sent("b1", ones, dz1))),
        "a1": Expected([[0.6], [1.3]], dz1, (Sent("z1", ones, dz1),)),
        "v2": Expected([[1.08]], error, (Sent("w2", [[0.6, 1.3]], dw2), Sent("a1", [[0.5], [0.6]], dz1))),
        "prediction": Expected([[1.38]], error, (Sent("v2", one, error), Sent("b2", one, error))),
        "v3": Expected([[0.38]], error, (Sent("prediction", one, error),)),
        "v4": Expected([[0.1444]], [[0.5]], (Sent("v3", [[0.76]], error),)),
        "v5": Expected([[0.0722]], one, (Sent("v4", [[0.5]], [[0.5]]),)),
        "loss": Expected(0.0722, 1, (Sent("v5", one, one),)),
    }


def shown(values: Any) -> str:
    """Numbers as they are to be read: six digits, in the brackets of their dimensions."""

    def nested(part: Any) -> str:
        return f"[{', '.join(map(nested, part))}]" if isinstance(part, list) else f"{part:.6g}"

    return nested(np.asarray(values).tolist())


def gradients_sent(node: Node) -> list[tuple[str, Any, Any]]:
    """(input, local, downstream) for each input that gets a gradient from a node's last visit."""
    visit = node.visits[-1]
    return [
        (edge.source.name, visit.local[edge.position], edge.sent(visit)) for edge in node.inputs if edge.sent(visit)
    ]
