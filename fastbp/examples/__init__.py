"""Backpropagation by example: short programs, each run by ``python -m fastbp.examples.NAME``.

chain_rule, computational_graphs     derivatives by hand and by graph
neuron, two_layer_network            neurons, layers and a whole network with numbers to check on paper
linear_regression, regularisation    models of one line, and what a penalty does to them
optimizers                           what each optimizer does with a gradient
gradient_descent                     batches, optimizers and random starts compared on the embedded digits
mnist_from_scratch                   a classifier built from its own layer classes

Every system is a function that returns its numbers by name; the tests compare them with the ones worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastbp


def variable(values: Any) -> fastbp.Tensor:
    """A float64 tensor of the values that records gradients."""
    return fastbp.tensor(values, dtype=fastbp.float64, requires_grad=True)


def constant(values: Any) -> fastbp.Tensor:
    """A float64 tensor of the values that needs no gradient: data, targets."""
    return fastbp.tensor(values, dtype=fastbp.float64)


def report(*systems: Callable[[], dict[str, Any]]) -> None:
    """Prints the first line of each function's description, then the numbers that it returns."""
    for system in systems:
        print((system.__doc__ or system.__name__).splitlines()[0])
        for name, value in system().items():
            print(f"    {name} = {value}")
