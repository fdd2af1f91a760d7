"""Layer norm, RMS norm and batch norm as operations: running statistics, compositions, what is refused.

Values and gradients are compared with PyTorch's in the table of operations (op_cases.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from kernel_call import FACTS
from op_cases import BY_NAME

import fastbp
from fastbp import _native
from fastbp.autograd import mode
from fastbp.nn import functional as F

DTYPES = ["float32", "float64"]
NORMS = [name for name in BY_NAME if name.startswith(("layer_norm", "rms_norm", "batch_norm", "embedding"))]


def values(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@contextmanager
def composed() -> Iterator[None]:
    mode.composed = True
    try:
        yield
    finally:
        mode.composed = False


# --- compositions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMS)
def test_a_composition_is_the_operation(name):
    case, results = BY_NAME[name], []
    for switch in (composed, lambda: fastbp.enable_grad()):
        tensors = case.tensors(fastbp)
        with switch():
            y = case.function(fastbp, *tensors)
        y.backward(fastbp.tensor(values(*y.shape)))
        results.append([y.detach().numpy(), *[t.grad.numpy() for t in tensors if t.requires_grad]])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


def test_a_composition_is_made_of_plain_operations():
    x = fastbp.tensor(values(6, 5)).requires_grad_()
    for norm in (
        lambda: F.layer_norm(x, 5),
        lambda: F.rms_norm(x, 5),
        lambda: F.batch_norm(x, None, None, training=True),
        lambda: F.batch_norm(x, fastbp.zeros(5, dtype="float64"), fastbp.ones(5, dtype="float64")),
    ):
        fused = norm().grad_fn.name
        with composed():
            assert norm().grad_fn.name == "Div" != fused


@pytest.mark.parametrize("switch", [composed, fastbp.no_grad, fastbp.enable_grad])
def test_running_statistics_move_once_in_every_mode(switch):
    x, mean, variance = fastbp.tensor(values(6, 5)), fastbp.zeros(5, dtype="float64"), fastbp.ones(5, dtype="float64")
    count = fastbp.zeros((), dtype=fastbp.int64)
    with switch():
        F.batch_norm(x.requires_grad_(), mean, variance, training=True, momentum=0.25, batches=count)
    np.testing.assert_allclose(mean.numpy(), 0.25 * x.detach().numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(variance.numpy(), 0.75 + 0.25 * x.detach().numpy().var(0, ddof=1), rtol=1e-13)
    assert count.item() == 1


def test_a_recorded_backward_pass_leaves_running_statistics_alone():
    x, mean, variance = fastbp.tensor(values(6, 5)), fastbp.zeros(5, dtype="float64"), fastbp.ones(5, dtype="float64")
    y = F.batch_norm(x.requires_grad_(), mean, variance, training=True)
    before = mean.tolist(), variance.tolist()
    (y * y).sum().backward(create_graph=True)
    assert (mean.tolist(), variance.tolist()) == before


# --- layer norm and RMS norm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [(False, True), (True, False), (False, False)])
def test_layer_norm_without_weight_or_bias(given, dtype):
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, fastbp):
        x, *affine = (library.tensor(values(*s, dtype=dtype)).requires_grad_() for s in ((7, 5), (5,), (5,)))
        w, b = (p if kept else None for p, kept in zip(affine, given))
        y = library.nn.functional.layer_norm(x, (5,), w, b)
        y.backward(library.tensor(values(7, 5, seed=1, dtype=dtype)))
        results.append([y.detach().numpy(), *[p.grad.numpy() for p in (x, w, b) if p is not None]])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=3e-5 if dtype == "float32" else 1e-12, atol=1e-6)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [1e4 + 1 / 3, -1e9 / 7, 0.1])
@pytest.mark.parametrize("n", [3, 100, 700])
def test_what_is_constant_becomes_0(n, value, dtype, backend):
    """The rounding of the mean is no deviation."""
    x = np.full((n, n), value, dtype)
    with fastbp.backend(backend):
        assert not F.layer_norm(fastbp.tensor(x), n).numpy().any()
        assert not F.batch_norm(fastbp.tensor(x), None, None, training=True).numpy().any()


@pytest.mark.parametrize(
    "norm", [lambda x: F.layer_norm(x, 300), lambda x: F.batch_norm(x.T, None, None, training=True)]
)
def test_a_recorded_backward_pass_of_what_is_constant(norm):
    """It goes another way to the same gradients."""
    x = fastbp.full((2, 300), 1e4 + 1 / 3).requires_grad_()
    y = norm(x)
    dy = fastbp.tensor(values(*y.shape, dtype="float32"))
    (plain,) = fastbp.autograd.grad(y, x, dy, retain_graph=True)
    (recorded,) = fastbp.autograd.grad(y, x, dy, create_graph=True)
    np.testing.assert_allclose(
        recorded.detach().numpy(), plain.numpy(), rtol=1e-4, atol=1e-4 * abs(plain.numpy()).max()
    )


@pytest.mark.parametrize("norm", [F.layer_norm, F.rms_norm])
def test_normalized_shape_may_be_an_integer_a_tuple_or_a_list(norm):
    x = fastbp.tensor(values(3, 4, 5))
    assert norm(x, 5).tolist() == norm(x, (5,)).tolist() == norm(x, [5]).tolist()
    assert norm(x, (4, 5)).tolist() == norm(x.reshape(3, 20), 20).reshape(3, 4, 5).tolist()


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_rms_norm_has_the_epsilon_of_its_dtype(dtype, eps):
    x = fastbp.tensor(values(3, 4, dtype=dtype) * np.dtype(dtype).type(1e-4))
    assert F.rms_norm(x, 4).tolist() == F.rms_norm(x, 4, eps=eps).tolist()


def test_each_row_stands_for_itself():
    x = values(40, 7)
    x[3, 2], x[5, 0] = np.nan, np.inf
    for norm in (F.layer_norm, F.rms_norm):
        whole = norm(fastbp.tensor(x), 7).numpy()
        assert np.isnan(whole[3]).all() and np.isnan(whole[5]).any()
        for i in (0, 4, 39):
            assert whole[i].tobytes() == norm(fastbp.tensor(x[i]), 7).numpy().tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_no_rows(shape):
    x = fastbp.zeros(shape).requires_grad_()
    w, b = fastbp.ones(3).requires_grad_(), fastbp.ones(3).requires_grad_()
    F.layer_norm(x, 3, w, b).sum().backward()
    assert x.grad.shape == shape and w.grad.tolist() == b.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((fastbp.ones(2, 3), 4), ValueError, r"\[layer_norm\] expected input of shape \(..., 4\), got \(2, 3\)"),
        ((fastbp.ones(3), (2, 3)), ValueError, r"\[layer_norm\] expected input of shape \(..., 2, 3\), got \(3,\)"),
        ((fastbp.ones(3), ()), ValueError, r"\[layer_norm\] expected input"),
        ((fastbp.ones(2, 3), 3, fastbp.ones(2)), ValueError, r"expected weight of shape \(3,\), got \(2,\)"),
        ((fastbp.ones(2, 3), 3, None, fastbp.ones(1, 3)), ValueError, r"expected bias of shape \(3,\), got \(1, 3\)"),
        ((fastbp.ones(2, 3), 3, fastbp.ones(3, dtype="float64")), TypeError, r"expected weight of input's dtype"),
        ((fastbp.arange(3), 3), TypeError, r"\[layer_norm\] expected input of floating dtype, got fastbp.int64"),
        ((np.ones(3), 3), TypeError, r"\[layer_norm\] expected a tensor, got ndarray"),
        ((fastbp.ones(3), "3"), TypeError, r"\[layer_norm\] expected a shape of integers"),
    ],
)
def test_layer_norm_says_what_it_expects(arguments, error, message):
    with pytest.raises(error, match=message):
        F.layer_norm(*arguments)


# --- batch norm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (600, 3), (5, 3, 4), (2, 3, 1, 4)])
def test_running_statistics_are_those_of_pytorch(shape, dtype):
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, fastbp):
        mean, variance = library.tensor(values(3, dtype=dtype)), library.tensor(values(3, dtype=dtype) ** 2)
        for t in range(4):
            x = library.tensor(values(*shape, seed=t, dtype=dtype) * 3 + 2)
            y = library.nn.functional.batch_norm(x, mean, variance, training=True, momentum=0.3)
        results.append([y.numpy(), mean.numpy(), variance.numpy()])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6)


def test_without_momentum_running_statistics_are_means_over_all_batches():
    batches = [values(6, 5, seed=t) for t in range(4)]
    mean, variance = fastbp.ones(5, dtype="float64"), fastbp.ones(5, dtype="float64")
    count = fastbp.zeros((), dtype=fastbp.int64)
    for x in batches:
        F.batch_norm(fastbp.tensor(x), mean, variance, training=True, momentum=None, batches=count)
    np.testing.assert_allclose(mean.numpy(), np.mean([x.mean(0) for x in batches], 0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(variance.numpy(), np.mean([x.var(0, ddof=1) for x in batches], 0), rtol=1e-12)
    assert count.item() == 4


def test_only_one_of_the_running_statistics():
    x, mean = fastbp.tensor(values(6, 5)), fastbp.zeros(5, dtype="float64")
    F.batch_norm(x, mean, None, training=True, momentum=1.0)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(0), rtol=1e-12, atol=1e-15)


def test_a_channel_stands_for_itself():
    x = values(40, 7)
    x[3, 2], x[5, 0] = np.nan, np.inf
    whole = F.batch_norm(fastbp.tensor(x), None, None, training=True).numpy()
    assert np.isnan(whole[:, 2]).all() and np.isnan(whole[:, 0]).all()
    for j in (1, 3, 6):
        alone = F.batch_norm(fastbp.tensor(x[:, j : j + 1]), None, None, training=True).numpy()
        assert whole[:, j].tobytes() == alone[:, 0].tobytes()


def test_given_statistics_that_change_before_backward_are_noticed():
    mean, variance = fastbp.zeros(5, dtype="float64"), fastbp.ones(5, dtype="float64")
    y = F.batch_norm(fastbp.tensor(values(6, 5)).requires_grad_(), mean, variance)
    variance.fill_(2.0)
    with pytest.raises(RuntimeError, match="a tensor that GivenNorm saved was changed in place"):
        y.sum().backward()


def test_nothing_is_counted_or_moved_where_a_batch_is_refused():
    mean, count = fastbp.zeros(5), fastbp.zeros((), dtype=fastbp.int64)
    with pytest.raises(ValueError, match=r"\[batch_norm\] expected more than one value of each channel in training"):
        F.batch_norm(fastbp.ones(1, 5), mean, fastbp.ones(5), training=True, batches=count)
    variance, apart = fastbp.ones(5), fastbp.zeros(5, 2)[:, 0]
    for options, momentum in itertools.product(
        ({"eps": "a"}, {"eps": -1.0}, {"running_mean": apart}, {"running_var": apart}), (0.1, None)
    ):
        given = {"running_mean": mean, "running_var": variance, "momentum": momentum, **options}
        with pytest.raises(
            (TypeError, ValueError), match=rf"\[batch_norm.*\] expected (a contiguous )?{next(iter(options))}"
        ):
            F.batch_norm(fastbp.ones(4, 5), training=True, batches=count, **given)
    for momentum in ("a", float("nan"), 2.0):
        with pytest.raises((TypeError, ValueError), match=r"\[batch_norm\] expected momentum"):
            F.batch_norm(fastbp.ones(4, 5), mean, variance, training=True, momentum=momentum, batches=count)
    assert mean.tolist() == [0] * 5 and variance.tolist() == [1] * 5 and count.item() == 0
    assert F.batch_norm(fastbp.ones(1, 5), mean, fastbp.ones(5)).shape == (1, 5)
    assert F.batch_norm(fastbp.ones(1, 5, 2), None, None, training=True).tolist() == [[[0.0, 0.0]] * 5]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"input": fastbp.ones(5)},
            ValueError,
            r"\[batch_norm\] expected input of shape \(N, C\) or \(N, C, ...\), got",
        ),
        ({"input": fastbp.ones(0, 5)}, ValueError, r"\[batch_norm\] expected more than one value of each channel"),
        (
            {"input": fastbp.ones(4, 5).long()},
            TypeError,
            r"\[batch_norm\] expected input of floating dtype",
        ),
        ({"weight": fastbp.ones(4)}, ValueError, r"\[batch_norm\] expected weight of shape \(5,\), got \(4,\)"),
        ({"running_var": fastbp.ones(5, 1)}, ValueError, r"expected running_var of shape \(5,\), got \(5, 1\)"),
        (
            {"bias": fastbp.ones(5, dtype="float64")},
            TypeError,
            r"expected bias of input's dtype, fastbp.float32",
        ),
        ({"training": False}, ValueError, r"expected running_mean and running_var outside of training, got None"),
        ({"momentum": None}, ValueError, r"\[batch_norm\] expected momentum or batches, got neither"),
        ({"batches": fastbp.ones(1)}, ValueError, r"\[batch_norm\] expected batches as an int64 tensor of one element"),
    ],
)
def test_batch_norm_says_what_it_expects(options, error, message):
    given = {"input": fastbp.ones(4, 5), "running_mean": None, "running_var": None, "training": True, **options}
    with pytest.raises(error, match=message):
        F.batch_norm(**given)


# --- the kernels' own checks ------------------------------------------------------------------------------------------

ROWS, COLS = 4, 3
MATRICES, OF_ROWS = {"x", "dy", "y", "dx"}, {"mean", "rstd"}
KERNELS = {name: FACTS[name] for name in FACTS if name.startswith(("row_norm", "batch_norm"))}


def shape_of(kernel: str, operand: str) -> tuple[int, ...]:
    if operand in MATRICES:
        return ROWS, COLS
    return (ROWS,) if kernel.startswith("row") and operand in OF_ROWS else (COLS,)


def call(kernel: str, moved: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> None:
    """A call with float32 operands in one storage, some moved to where another is, some of another shape."""
    f = KERNELS[kernel]
    memory = _native.empty((16 * len(f.parameters),), 0)
    np.asarray(memory)[...] = 0.5
    starts = {name: 16 * i for i, name in enumerate(f.parameters)}
    arguments = []
    for name in f.parameters:
        if name in f.constants:
            arguments.append(False if name == "accumulate" else 0.5)
        elif name == "batches":
            arguments.append(None)  # of another type, never in the same storage
        else:
            shape = shapes.get(name, shape_of(kernel, name))
            arguments.append(memory.view(shape, (COLS, 1)[-len(shape) :], starts[moved.get(name, name)]))
    getattr(_native, kernel)(*arguments)


def operands(kernel: str) -> list[str]:
    return [name for name in KERNELS[kernel].operands if name != "batches"]


PAIRS = [
    (kernel, output, other)
    for kernel, f in KERNELS.items()
    for output in f.writes(**dict.fromkeys(f.parameters, 1))
    for other in operands(kernel)
    if other != output
]


@pytest.mark.parametrize(("kernel", "output", "other"), PAIRS)
def test_an_output_in_the_place_of_another_operand_is_refused(kernel, output, other):
    call(kernel, {}, {})
    with pytest.raises(ValueError, match=rf"^\[{kernel}\] expected an output that shares no memory"):
        call(kernel, {output: other}, {})


@pytest.mark.parametrize(("kernel", "operand"), [(kernel, name) for kernel in KERNELS for name in operands(kernel)[1:]])
def test_an_operand_of_another_shape_is_named(kernel, operand):
    shape = shape_of(kernel, operand)
    wrong = (shape[0] - 1, *shape[1:])
    with pytest.raises(ValueError, match=re.escape(f"[{kernel}] expected {operand} of shape {shape}, got {wrong}")):
        call(kernel, {}, {operand: wrong})
