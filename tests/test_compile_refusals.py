"""What a compiled function cannot do, it says, with the line of the user that asked for it."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import BATCHES, with_sgd

import fastbp
from fastbp import nn
from fastbp.nn import functional as F

ARRAY = np.ones(3, np.float32)
REFUSED = {
    "item": (lambda x: x.sum().item(), "values on the host"),
    "numpy": (lambda x: (x * 1).numpy(), "values on the host"),
    "numpy of an argument": (lambda x: x.numpy(), "values on the host"),
    "tolist": (lambda x: x.tolist(), "values on the host"),
    "asarray": (lambda x: np.asarray(x), "values on the host"),
    "bool": (lambda x: x if x.sum() > 1 else -x, "values on the host"),
    "float": (lambda x: float(x.sum()), "values on the host"),
    "int": (lambda x: int(x.sum()), "values on the host"),
    "repr": (lambda x: repr(x), "values on the host"),
    "dlpack": (lambda x: np.from_dlpack(x), "values on the host"),
    "tensor": (lambda x: x + fastbp.tensor([1.0, 2.0, 3.0]), "new data of the host"),
    "array": (lambda x: x + ARRAY, "new data of the host"),
    "from_numpy": (lambda x: x + fastbp.from_numpy(ARRAY), "new data of the host"),
    "list as index": (lambda x: x[[0, 1]], "new data of the host"),
    "mask": (lambda x: x[x > 0], "values on the host"),
    "computed index": (lambda x: x[x.to(fastbp.int64)], "the values of indices"),
    "computed labels": (lambda x: F.cross_entropy(x, (x > 1).to(fastbp.int64).sum()), "the values of indices"),
    "seed": (lambda x: fastbp.manual_seed(3), "to seed random numbers"),
    "nll_loss": (lambda x: F.nll_loss(x.reshape(1, 3), (x > 1).sum().reshape(1)), "the values of indices"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_host_is_refused_with_its_line(name):
    function, needs = REFUSED[name]
    compiled = fastbp.compile(function)
    line = function.__code__.co_firstlineno
    for _ in range(2):
        with pytest.raises(fastbp.CompileError) as caught:
            compiled(fastbp.ones(3))
        assert str(caught.value).startswith(f"[compile] {__file__}:{line}: expected a function")
        assert needs in str(caught.value) and "; " in str(caught.value)
    assert issubclass(fastbp.CompileError, RuntimeError)


def test_the_line_is_the_innermost_of_the_user():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    model = nn.Sequential(nn.Linear(5, 3), Branching())
    line = Branching.forward.__code__.co_firstlineno + 1
    with pytest.raises(fastbp.CompileError, match=f"{__file__}:{line}: "):
        fastbp.compile(lambda x: model(x))(BATCHES[0][0])


def test_new_memory_is_refused():
    p = nn.Parameter(fastbp.zeros(3))

    def run():
        p.data = fastbp.ones(3)

    with pytest.raises(fastbp.CompileError, match=r"to give a tensor other memory; use copy_\(\)"):
        fastbp.compile(run)()
    assert p.tolist() == [0, 0, 0]


def test_a_tensor_of_an_earlier_recording_is_refused():
    """Kept outside by Python, it has no values: hidden state, say, that goes on with a batch of another size."""
    state = [fastbp.zeros(3)]

    @fastbp.compile
    def run(x):
        state[0] = state[0] * 0.5 + x.sum(0)
        return state[0]

    assert run(fastbp.ones(2, 3)).tolist() == [2, 2, 2]
    with pytest.raises(fastbp.CompileError, match=r"a tensor of an earlier recording; return it, or keep it in a tens"):
        run(fastbp.ones(4, 3))


def test_a_wrong_shape_is_refused_by_the_operation():
    compiled = fastbp.compile(with_sgd()()[0])
    compiled(*BATCHES[0])
    with pytest.raises(ValueError, match=r"^\[linear"):
        compiled(fastbp.ones(8, 4), BATCHES[0][1])


def test_a_refusal_that_the_function_catches_is_one():
    def run(x):
        try:
            return x * x.sum().item()
        except RuntimeError:
            return x

    with pytest.raises(fastbp.CompileError):
        fastbp.compile(run)(fastbp.ones(3))
