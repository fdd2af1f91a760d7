"""Every operation: its values and gradients are PyTorch's, its rule passes the gradient check, bad input is refused."""

from __future__ import annotations

import math
from types import CodeType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_cases import BY_NAME, CASES, DERIVED

import fastbp
from fastbp.nn import functional as F
from fastbp.ops import unary

NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def each(case):
    return case.name


# --- values and gradients ---------------------------------------------------------------------------------------------

# Sums of a few dozen terms of size one, each rounded: some units in the last place of the largest.
TOLERANCE = {np.float32: {"rtol": 4e-6, "atol": 2e-6}, np.float64: {"rtol": 1e-12, "atol": 1e-13}}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=each)
def test_values_and_gradients_are_those_of_pytorch(case, dtype):
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, fastbp):
        tensors = case.tensors(library, dtype)
        y = case.run(library, *tensors)
        upstream = np.random.default_rng(0).standard_normal(tuple(y.shape)).astype(y.detach().numpy().dtype)
        y.backward(library.tensor(upstream))
        gradients = [t.grad.numpy() for t in tensors if t.requires_grad]
        results.append([y.detach().numpy(), *gradients])
    for expected, actual in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("case", [*CASES, *DERIVED], ids=each)
def test_rule_passes_the_gradient_check(case):
    tensors = case.tensors(fastbp)
    differentiated, targets = (tensors[: len(tensors) - case.fixed], tensors[len(tensors) - case.fixed :])
    assert fastbp.gradcheck(lambda *inputs: case.function(fastbp, *inputs, *targets), tuple(differentiated))


@pytest.mark.parametrize("case", [*CASES, *DERIVED], ids=each)
def test_rule_can_be_differentiated_again(case):
    tensors = case.tensors(fastbp)
    differentiated, targets = (tensors[: len(tensors) - case.fixed], tensors[len(tensors) - case.fixed :])
    assert fastbp.gradgradcheck(lambda *inputs: case.function(fastbp, *inputs, *targets), tuple(differentiated))


@pytest.mark.parametrize("case", [case for case in BY_NAME.values() if case.name in unary.KERNELS], ids=each)
def test_recorded_derivative_is_that_of_the_kernel(case):
    gradients = []
    for create_graph in (False, True):
        (x,) = case.tensors(fastbp)
        case.function(fastbp, x).sum().backward(create_graph=create_graph)
        gradients.append(x.grad.detach().numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=each)
def test_second_derivatives_are_those_of_pytorch(case):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    theirs = case.tensors(torch)
    inputs = [t for t in theirs if t.requires_grad]
    y = case.run(torch, *theirs)
    upstream = rng.standard_normal(tuple(y.shape))
    firsts = torch.autograd.grad(y, inputs, torch.tensor(upstream), create_graph=True)
    directions = [rng.standard_normal(tuple(first.shape)) for first in firsts]
    total = sum((first * torch.tensor(direction)).sum() for first, direction in zip(firsts, directions))
    if total.requires_grad:
        expected = torch.autograd.grad(total, inputs, allow_unused=True)
    else:
        expected = [None] * len(inputs)

    ours = case.tensors(fastbp)
    inputs = [t for t in ours if t.requires_grad]
    case.function(fastbp, *ours).backward(fastbp.tensor(upstream), create_graph=True)
    total = sum((t.grad * fastbp.tensor(direction)).sum() for t, direction in zip(inputs, directions))
    for t in inputs:
        t.grad = None
    if total.requires_grad:
        total.backward()
    for t, second in zip(inputs, expected):
        actual = np.zeros(t.shape) if t.grad is None else t.grad.detach().numpy()
        np.testing.assert_allclose(actual, 0 if second is None else second.numpy(force=True), rtol=1e-10, atol=1e-12)


NUMPY_TWINS = [
    (fastbp.exp, np.exp),
    (fastbp.log1p, np.log1p),
    (fastbp.expm1, np.expm1),
    (fastbp.sqrt, np.sqrt),
    (fastbp.square, np.square),
    (fastbp.abs, np.abs),
    (fastbp.sin, np.sin),
    (fastbp.cos, np.cos),
    (fastbp.tanh, np.tanh),
    (fastbp.reciprocal, np.reciprocal),
    (fastbp.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    (fastbp.relu, lambda x: np.maximum(x, 0)),
    (fastbp.sum, np.sum),
    (fastbp.mean, np.mean),
    (fastbp.argmax, np.argmax),
    (fastbp.argmin, np.argmin),
    (lambda t: t.var(), lambda x: x.var(ddof=1)),
    (lambda t: t.argmax(dim=1), lambda x: x.argmax(1)),
    (lambda t: t.argmin(dim=0, keepdim=True), lambda x: x.argmin(0, keepdims=True)),
    (lambda t: t.max(dim=1).indices, lambda x: x.argmax(1)),
    (lambda t: t @ t.T, lambda x: x @ x.T),
    (lambda t: fastbp.softmax(t, 1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    (lambda t: fastbp.where(t > 1, t, -t), lambda x: np.where(x > 1, x, -x)),
    (lambda t: 2**t, lambda x: 2**x),
]


@pytest.mark.parametrize(("function", "twin"), NUMPY_TWINS)
def test_values_are_those_of_numpy(function, twin):
    array = np.random.default_rng(5).uniform(0.1, 2.0, (5, 7))
    np.testing.assert_allclose(function(fastbp.tensor(array)).numpy(), twin(array), rtol=1e-13)


COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64, fastbp.int64])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name, dtype):
    a, b = (fastbp.tensor([[1, 2, 3]], dtype=dtype), fastbp.tensor([[2], [1]], dtype=dtype))
    operator = f"__{name}__"
    expected = getattr(a.numpy(), operator)(b.numpy())
    for result in (getattr(a, operator)(b), getattr(fastbp, name)(a, b), getattr(a, name)(b)):
        assert result.dtype == fastbp.bool
        np.testing.assert_array_equal(result.numpy(), expected)
    np.testing.assert_array_equal(getattr(a, operator)(2).numpy(), getattr(a.numpy(), operator)(2))


def test_nan_compares_as_in_ieee():
    nan = fastbp.tensor([NAN])
    assert [getattr(nan, f"__{name}__")(nan).item() for name in COMPARISONS] == [False, True, *[False] * 4]


def test_logic_of_masks():
    a, b = (fastbp.tensor([True, True, False, False]), fastbp.tensor([True, False, True, False]))
    assert (a & b).tolist() == [True, False, False, False]
    assert (a | b).tolist() == [True, True, True, False]
    assert (a ^ b).tolist() == [False, True, True, False]
    assert (~a).tolist() == [False, False, True, True]
    assert fastbp.logical_and(a, b).tolist() == (a & b).tolist()
    assert fastbp.logical_not(a).tolist() == (~a).tolist()


def test_integers():
    a, b = fastbp.tensor([7, -7]), fastbp.tensor([2, 3])
    assert (a + b).tolist() == [9, -4]
    assert (a - 1).tolist() == [6, -8]
    assert (3 * a).tolist() == [21, -21]
    assert (-a).tolist() == [-7, 7]
    assert abs(a).tolist() == [7, 7]
    assert fastbp.maximum(a, b).tolist() == [7, 3]
    assert a.sum().item() == 0
    assert (2**62 + a[:1]).item() == 2**62 + 7  # exact: never through floats
    assert a.max().item() == 7


# --- the rules at the edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "x", "y", "dx"),
    [
        (F.relu, [NAN, -0.0, 0.0, INF, -INF], [NAN, 0.0, 0.0, INF, 0.0], [None, 0, 0, 1, 0]),
        (fastbp.abs, [-2.0, 0.0, 3.0], [2, 0, 3], [-1, 0, 1]),
        (lambda t: t.clamp(-1, 1), [-2.0, -1.0, 0.0, 1.0, NAN], [-1, -1, 0, 1, NAN], [0, 1, 1, 1, None]),
        (lambda t: t.sqrt(), [0.0, 4.0], [0, 2], [INF, 0.25]),
        (lambda t: fastbp.maximum(t, fastbp.zeros_like(t)), [0.0, 1.0, -1.0], [0, 1, 0], [0.5, 1, 0]),
        (fastbp.sigmoid, [-1000.0, 0.0, 1000.0], [0, 0.5, 1], [0, 0.25, 0]),
        (F.softplus, [-1000.0, 1000.0], [0, 1000], [0, 1]),
        (lambda t: fastbp.logsumexp(t, 0), [1000.0, 1000.0], 1000 + math.log(2), [0.5, 0.5]),
        (lambda t: fastbp.softmax(t, 0), [1000.0, 1000.0], [0.5, 0.5], [0, 0]),
        (lambda t: t**2, [0.0, -3.0], [0, 9], [0, -6]),
    ],
)
def test_edges(function, x, y, dx):
    t = fastbp.tensor(x, dtype=fastbp.float64, requires_grad=True)
    result = function(t)
    np.testing.assert_allclose(result.detach().numpy(), y, rtol=1e-14)
    result.sum().backward()
    for actual, expected in zip(t.grad.tolist(), dx, strict=True):
        assert expected is None or actual == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_nan_wins_in_maximum_and_minimum():
    x = fastbp.tensor([[1.0, NAN, 2.0]])
    assert math.isnan(x.max().item())
    assert math.isnan(x.min().item())
    assert x.argmax().item() == 1
    assert fastbp.isnan(fastbp.maximum(x, fastbp.zeros(3))).tolist() == [[False, True, False]]


def test_empty_tensors():
    empty = fastbp.zeros(0, 3, requires_grad=True)
    assert empty.sum().item() == 0
    assert empty.sum(0).tolist() == [0, 0, 0]
    assert math.isnan(empty.mean().item())
    assert tuple((empty @ fastbp.zeros(3, 2)).shape) == (0, 2)
    assert (fastbp.zeros(2, 0) @ fastbp.zeros(0, 2)).tolist() == [[0, 0], [0, 0]]
    (fastbp.relu(empty) * 2).sum().backward()
    assert tuple(empty.grad.shape) == (0, 3)


def test_dropout_keeps_the_mean_and_its_gradient_is_its_mask():
    fastbp.manual_seed(0)
    x = fastbp.ones(10_000, requires_grad=True)
    y = F.dropout(x, 0.25, training=True)
    y.sum().backward()
    assert set(np.unique(y.detach().numpy())) == {np.float32(0), np.float32(1 / 0.75)}
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert F.dropout(x, 0.25, training=False).tolist() == x.tolist()
    assert F.dropout(x, 1.0, training=True).sum().item() == 0
    assert F.dropout(x, 0.0, training=True).tolist() == x.tolist()


def test_sample_weight_weighs_rows_and_divides_by_its_sum():
    x, t = fastbp.tensor([[1.0, 2.0], [3.0, 5.0]]), fastbp.zeros(2, 2)
    rows = np.array([(1 + 4) / 2, (9 + 25) / 2])
    weight = fastbp.tensor([3.0, 1.0])
    assert F.mse_loss(x, t, sample_weight=weight).item() == pytest.approx((rows * [3, 1]).sum() / 4)
    logits, names = fastbp.tensor([[2.0, -1.0], [0.5, 0.0]]), fastbp.tensor([0, 1])
    single = [F.cross_entropy(logits[i : i + 1], names[i : i + 1]).item() for i in range(2)]
    weighted = F.cross_entropy(logits, names, sample_weight=weight).item()
    assert weighted == pytest.approx((3 * single[0] + single[1]) / 4)
    assert F.cross_entropy(logits, names, sample_weight=fastbp.ones(2)).item() == pytest.approx(
        F.cross_entropy(logits, names).item()
    )


# --- properties -------------------------------------------------------------------------------------------------------

# Reproducible, never timed; the backend fixture holds for all examples of a run, which is what is meant.
properties = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def unbroadcast(gradient, shape):
    """The adjoint of broadcasting, from its definition: sum over every axis that was stretched."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(axis=stretched, keepdims=True)


@properties
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=4, max_dims=4))
def test_broadcasting_and_its_adjoint(shapes):
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes.input_shapes)
    upstream = rng.integers(-4, 5, shapes.result_shape).astype(np.float64)
    ta, tb = fastbp.tensor(a, requires_grad=True), fastbp.tensor(b, requires_grad=True)
    y = ta * tb
    np.testing.assert_array_equal(y.detach().numpy(), a * b)
    y.backward(fastbp.tensor(upstream))
    # Small integers: every order of summation gives the same number.
    np.testing.assert_array_equal(ta.grad.numpy(), unbroadcast(upstream * b, a.shape))
    np.testing.assert_array_equal(tb.grad.numpy(), unbroadcast(upstream * a, b.shape))


@properties
@given(data=st.data())
def test_sums_over_any_axes(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    axes = data.draw(st.sets(st.integers(-len(shape), len(shape) - 1), min_size=1))
    axes = tuple({axis % len(shape): axis for axis in axes}.values())
    keepdim = data.draw(st.booleans())
    array = np.random.default_rng(2).integers(-9, 10, shape).astype(np.float64)
    result = fastbp.tensor(array).sum(dim=axes, keepdim=keepdim)
    np.testing.assert_array_equal(result.numpy(), array.sum(axis=axes, keepdims=keepdim))


@properties
@given(data=st.data())
def test_matmul_of_any_dimensions(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(signature="(m?,k),(k,n?)->(m?,n?)", max_dims=2, max_side=4))
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes.input_shapes)
    np.testing.assert_array_equal((fastbp.tensor(a) @ fastbp.tensor(b)).numpy(), np.matmul(a, b))


# --- the table is whole -----------------------------------------------------------------------------------------------

WITHOUT_GRADIENT = """
    all any argmax argmin eq ne lt le gt ge isfinite isinf isnan logical_and logical_not logical_or logical_xor
    arange as_tensor empty empty_like eye from_dlpack from_numpy full full_like linspace ones ones_like zeros zeros_like
    Generator bernoulli manual_seed rand rand_like randint randn randn_like randperm
""".split()
RANDOM = ["dropout"]  # has a test of its own


def names_in(code):
    """The names that a function's code uses, those of functions inside it too."""
    return set(code.co_names).union(*(names_in(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def test_every_differentiable_operation_has_a_case():
    used = set().union(*(names_in(case.function.__code__) for case in CASES))
    covered = {name for name in fastbp.ops.__all__ if name in used or any(key.startswith(name) for key in BY_NAME)}
    assert sorted({*fastbp.ops.__all__} - covered - {*WITHOUT_GRADIENT, *RANDOM}) == []


def test_every_case_has_its_own_name():
    assert len(BY_NAME) == len(CASES) + len(DERIVED)
