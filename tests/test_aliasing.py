"""Losses refuse outputs that share memory with other operands, except a single gradient in the place of its own x."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastbp import _native
from fastbp.kernels import reference

ROWS, COLS = 4, 19  # columns of more than one vector
MATRIX, STACK, ROW = (ROWS, COLS), (ROWS, COLS, COLS), (ROWS,)
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("x", "logits", "target", "var", "a", "b"), MATRIX),
    **dict.fromkeys(("dx", "dlogits", "dvar", "da", "db"), MATRIX),
    **dict.fromkeys(("means", "log_stds", "dmeans", "dlog_stds"), STACK),
    **dict.fromkeys(("sample_weight", "losses"), ROW),
    **dict.fromkeys(("coefficient", "class_weight"), (COLS,)),
    "denominator": (1,),
}
APART = 1500  # elements from one operand to the next: more than any has, so that none reaches a third one
CONSTANTS = {
    "ignore_index": -100, "label_smoothing": 0.1, "delta": 1.0, "beta": 1.0, "margin": 1.0, "alpha": 0.25, "gamma": 2.0,
    "offset": 1e-8, "floor": 1e-6, "full": 1.0,
}  # fmt: skip
OF_CLASSES = ("cross_entropy_forward", "nll_forward")
LABELS = _native.from_array(np.arange(ROWS) % COLS)
FACTS = {
    name: getattr(reference, name).facts
    for name in reference.__all__
    if "losses" in getattr(reference, name).facts.outputs
}


def shape_of(kernel: str, name: str) -> tuple[int, ...]:
    return ROW if (kernel, name) == ("cosine_embedding_forward", "target") else SHAPES[name]


def call(kernel: str, moved: dict[str, str]) -> dict[str, Any]:
    """The outputs of a call with float32 operands in one storage, some moved to where another is."""
    memory = _native.empty((APART * len(SHAPES),), 0)
    np.asarray(memory)[...] = np.random.default_rng(0).uniform(0.1, 0.9, memory.shape)
    starts = {name: APART * i for i, name in enumerate(SHAPES)}

    def operand(name: str) -> Any:
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name == "target" and kernel in OF_CLASSES:
            return LABELS
        shape = shape_of(kernel, name)
        return memory.view(shape, (COLS * COLS, COLS, 1)[-len(shape) :], starts[moved.get(name, name)])

    operands = {name: operand(name) for name in FACTS[kernel].parameters}
    getattr(_native, kernel)(*operands.values())
    return {name: np.asarray(operands[name]) for name in FACTS[kernel].outputs}


def may_replace(kernel: str, output: str, other: str) -> bool:
    facts = FACTS[kernel]
    return len(facts.outputs) == 2 and output == facts.outputs[1] and other == facts.parameters[0]


PAIRS = [
    (kernel, output, other)
    for kernel, facts in FACTS.items()
    for output in facts.outputs
    for other in facts.operands
    if other != output and not may_replace(kernel, output, other)
    if not (kernel in OF_CLASSES and other == "target")  # of another type, never in the same storage
]


@pytest.mark.parametrize(("kernel", "output", "other"), PAIRS)
def test_an_output_in_the_place_of_another_operand_is_refused(kernel: str, output: str, other: str) -> None:
    with pytest.raises(ValueError, match=rf"^\[{kernel}\] expected an output that shares no memory"):
        call(kernel, {output: other})


@pytest.mark.parametrize("kernel", FACTS)
def test_a_single_gradient_may_take_the_place_of_its_input(kernel: str) -> None:
    apart, facts = call(kernel, {}), FACTS[kernel]
    if len(facts.outputs) == 2:
        replaced = call(kernel, {facts.outputs[1]: facts.parameters[0]})
        for name in facts.outputs:
            np.testing.assert_array_equal(replaced[name], apart[name])
