"""Losses refuse outputs that share memory with other operands, except a gradient in the place of its own x."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp import _native
from fastbp.kernels import reference

ROWS, COLS = 4, 3
SHAPES = {
    "x": (ROWS, COLS), "logits": (ROWS, COLS), "target": (ROWS, COLS), "pos_weight": (COLS,), "class_weight": (COLS,),
    "sample_weight": (ROWS,), "denominator": (1,), "losses": (ROWS,), "dx": (ROWS, COLS), "dlogits": (ROWS, COLS),
}  # fmt: skip
CONSTANTS = {"ignore_index": -100, "label_smoothing": 0.1}
LABELS = _native.from_array(np.arange(ROWS) % COLS)
KERNELS = {
    name: getattr(reference, name).facts.parameters
    for name in (
        "mse_forward", "l1_forward", "binary_cross_entropy_forward", "sigmoid_cross_entropy_forward",
        "cross_entropy_forward", "cross_entropy_probabilities_forward",
    )
}  # fmt: skip


def call(kernel: str, moved: dict[str, str]) -> None:
    """A call with float32 operands in one storage, some moved to where another is."""
    memory = _native.empty((16 * len(SHAPES),), 0)
    memory_array = np.asarray(memory)
    memory_array[...] = 0.5
    starts = {name: 16 * i for i, name in enumerate(SHAPES)}  # far enough apart that none reaches a third one

    def operand(name: str):
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name == "target" and kernel == "cross_entropy_forward":
            return LABELS
        shape = SHAPES[name]
        return memory.view(shape, (COLS, 1)[-len(shape) :], starts[moved.get(name, name)])

    getattr(_native, kernel)(*(operand(name) for name in KERNELS[kernel]))


PAIRS = [
    (kernel, output, other)
    for kernel, parameters in KERNELS.items()
    for output in ("losses", parameters[-1])
    for other in parameters
    if other in SHAPES and other != output and (output, other) not in (("dx", "x"), ("dlogits", "logits"))
    if not (kernel == "cross_entropy_forward" and other == "target")  # of another type, never in the same storage
]


@pytest.mark.parametrize(("kernel", "output", "other"), PAIRS)
def test_an_output_in_the_place_of_another_operand_is_refused(kernel: str, output: str, other: str) -> None:
    with pytest.raises(ValueError, match=rf"^\[{kernel}\] expected an output that shares no memory"):
        call(kernel, {output: other})


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_gradient_may_take_the_place_of_its_input(kernel: str) -> None:
    call(kernel, {})
    call(kernel, {KERNELS[kernel][-1]: KERNELS[kernel][0]})
