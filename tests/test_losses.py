"""Losses beyond the table of operations: at kinks and edges, as plain operations, at limits of options, as modules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from op_cases import losses

import fastbp
from fastbp import nn
from fastbp.autograd import mode
from fastbp.nn import functional as F


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


@pytest.fixture
def composed():
    mode.composed = True
    yield
    mode.composed = False


def named(case):
    return case.name


# --- kinks and edges --------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A loss where its derivative is a matter of convention, or where numbers end: predictions, then constants."""

    name: str
    function: Callable[..., Any]
    predictions: tuple[Any, ...]
    in_torch: Callable[..., Any] | None = None

    def gradients(self, library: Any, **how: Any) -> tuple[Any, list[Any]]:
        tensors = [library.tensor(np.array(p, np.float64)).requires_grad_() for p in self.predictions]
        function = self.in_torch if self.in_torch and library is not fastbp else self.function
        y = function(library, *tensors)
        y.backward(**how)
        return y.item(), [t.grad.detach().numpy() for t in tensors]


def constant(f: Any, *values: float) -> Any:
    return f.tensor(values, dtype=f.float64)


SUM = {"reduction": "sum"}
KINKS = [1.0, -1.0, 0.0, -0.0, 0.5, 3.0]
EDGES = [
    Edge("l1", lambda f, x: f.nn.functional.l1_loss(x, x.detach() * 0, **SUM), (KINKS,)),
    Edge("huber", lambda f, x: f.nn.functional.huber_loss(x, x.detach() * 0, **SUM), (KINKS,)),
    Edge("smooth_l1", lambda f, x: f.nn.functional.smooth_l1_loss(x, x.detach() * 0, **SUM), (KINKS,)),
    Edge("smooth_l1 0", lambda f, x: f.nn.functional.smooth_l1_loss(x, x.detach() * 0, beta=0.0, **SUM), (KINKS,)),
    Edge(
        "quantile",
        lambda f, x: f.nn.functional.quantile_loss(x, constant(f, 0, 0), losses.QUANTILES, **SUM),
        ([[0.0, 0.0, 1.0], [-0.0, 1.0, -1.0]],),
        lambda f, x: losses.quantile(f, x, constant(f, 0, 0)).sum(),
    ),
    Edge(
        "binary_cross_entropy",
        lambda f, x: f.nn.functional.binary_cross_entropy(x, constant(f, 0, 1, 1, 0, 0.5, 0.5, 0.25), **SUM),
        ([0.0, 1.0, 0.0, 1.0, 0.0, 1e-14, 1e-11],),
    ),
    Edge(
        "with_logits",
        lambda f, x: f.nn.functional.binary_cross_entropy_with_logits(x, constant(f, 0, 1, 1, 0, 0.5), **SUM),
        ([800.0, 800.0, -800.0, -800.0, -800.0],),
    ),
    Edge(
        "focal",
        lambda f, x: f.nn.functional.sigmoid_focal_loss(x, constant(f, 0, 1, 1, 0, 1), **SUM),
        ([30.0, 30.0, -30.0, -30.0, 0.0],),
        lambda f, x: losses.focal(0.25, 2.0)(f, x, constant(f, 0, 1, 1, 0, 1)).sum(),
    ),
    Edge(
        "gaussian",  # variances below eps are bounded, but keep their gradient
        lambda f, x, var: f.nn.functional.gaussian_nll_loss(x, constant(f, 0, 0, 1), var, eps=0.01, **SUM),
        ([0.1, 0.2, 1.0], [1e-9, 0.002, 0.01]),
    ),
    Edge(
        "hinge",
        lambda f, x: f.nn.functional.hinge_loss(x, constant(f, 1, -1, 1, -1), **SUM),
        ([1.0, -1.0, 0.0, 2.0],),
        lambda f, x: f.relu(1 - constant(f, 1, -1, 1, -1) * x).sum(),
    ),
    Edge(
        "hinge_embedding",
        lambda f, x: f.nn.functional.hinge_embedding_loss(x, constant(f, 1, -1, -1, -1), margin=0.5, **SUM),
        ([0.5, 0.5, 0.25, 2.0],),
    ),
    Edge(
        "poisson",
        lambda f, x: f.nn.functional.poisson_nll_loss(x, constant(f, 0, 1, 5), log_input=False, full=True, **SUM),
        ([0.0, 2.0, 0.5],),
    ),
    Edge("kl_div", lambda f, x: f.nn.functional.kl_div(x, constant(f, 0, 1, 0.5), **SUM), ([0.0, -2.0, -1.0],)),
    Edge(
        "cosine_embedding",  # a cosine equal to the margin, a vector of zeros, a target that is neither
        lambda f, a, b: f.nn.functional.cosine_embedding_loss(a, b, constant(f, -1, -1, 1, 0), **SUM),
        ([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0], [1.0, 1.0]], [[0.0, 3.0], [2.0, 1.0], [1.0, 2.0], [1.0, 2.0]]),
    ),
]


@pytest.mark.parametrize("edge", EDGES, ids=named)
def test_gradients_at_edges_are_those_of_pytorch(edge):
    torch = pytest.importorskip("torch")
    value, gradients = edge.gradients(fastbp)
    expected, theirs = edge.gradients(torch)
    assert value == pytest.approx(expected, rel=1e-12)
    for ours, other in zip(gradients, theirs, strict=True):
        # PyTorch's 1e-12, at probabilities 0 and 1 and beside squares of vectors, are rounded to float32.
        rounded = edge.name in ("binary_cross_entropy", "cosine_embedding")
        np.testing.assert_allclose(ours, other, rtol=1e-7 if rounded else 1e-12, atol=1e-14)


@pytest.mark.parametrize("edge", EDGES, ids=named)
def test_recorded_gradients_at_edges_are_those_of_the_kernel(edge):
    _, gradients = edge.gradients(fastbp)
    _, recorded = edge.gradients(fastbp, create_graph=True)
    for fused, plain in zip(gradients, recorded, strict=True):
        np.testing.assert_allclose(plain, fused, rtol=1e-12, atol=1e-13)


# --- what losses stand for --------------------------------------------------------------------------------------------


def results(case):
    tensors = case.tensors(fastbp)
    y = case.function(fastbp, *tensors)
    y.backward(fastbp.tensor(np.random.default_rng(0).standard_normal(y.shape)))
    return y, [t.grad.numpy() for t in tensors if t.requires_grad]


@pytest.mark.parametrize("case", losses.CASES, ids=named)
def test_the_plain_operations_of_a_loss_give_its_value_and_gradients(case, composed):
    plain, plain_gradients = results(case)
    mode.composed = False
    fused, gradients = results(case)
    np.testing.assert_allclose(plain.detach().numpy(), fused.detach().numpy(), rtol=1e-12, atol=1e-14)
    for expected, actual in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-13)


def test_a_loss_is_one_node_of_the_graph_or_several(composed):
    x = fastbp.zeros(3, 2, requires_grad=True)
    assert F.huber_loss(x, fastbp.ones(3, 2)).grad_fn.name == "Mean"
    mode.composed = False
    node = F.huber_loss(x, fastbp.ones(3, 2)).grad_fn
    assert node.name == "HuberLoss" and node.edges[0][0] is x


# --- relations and limits ---------------------------------------------------------------------------------------------


def values(*shape, seed=0):
    return fastbp.tensor(np.random.default_rng(seed).standard_normal(shape))


def test_huber_loss_is_smooth_l1_loss_times_its_bound():
    x, t = values(5, 3), values(5, 3, seed=1)
    np.testing.assert_allclose(F.huber_loss(x, t, delta=0.3).item(), 0.3 * F.smooth_l1_loss(x, t, beta=0.3).item())
    assert F.smooth_l1_loss(x, t, beta=0.0).item() == F.l1_loss(x, t).item()


def test_the_median_is_half_the_absolute_error():
    x, t = values(5, 1), values(5, seed=1)
    assert F.quantile_loss(x, t, [0.5]).item() == pytest.approx(0.5 * F.l1_loss(x[:, 0], t).item(), rel=1e-14)


def test_the_best_constant_of_a_quantile_is_that_quantile():
    """Between the numbers below and above it the slope of the loss changes sign."""
    t = fastbp.arange(100, dtype=fastbp.float64)
    slopes = []
    for guess in (79.5, 80.5):
        x = fastbp.full((100, 1), guess, dtype=fastbp.float64, requires_grad=True)
        F.quantile_loss(x, t, [0.805]).backward()
        slopes.append(x.grad.sum().item())
    assert slopes[0] < 0 < slopes[1]


def test_focal_loss_without_focus_is_cross_entropy():
    x, t = values(5, 3), (values(5, 3, seed=1) > 0).double()
    plain = F.binary_cross_entropy_with_logits(x, t).item()
    assert F.sigmoid_focal_loss(x, t, alpha=-1, gamma=0).item() == pytest.approx(plain, rel=1e-14)
    assert F.sigmoid_focal_loss(x, t, alpha=0.5, gamma=0).item() == pytest.approx(plain / 2, rel=1e-14)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64])
def test_focal_loss_of_sure_predictions_is_finite(gamma, dtype):
    for target, sign, right in ((0.0, 1, [-1e4, -90.0]), (1.0, -1, [90.0, 1e4])):
        t = fastbp.full((2,), target, dtype=dtype)
        x = fastbp.tensor(right, dtype=dtype, requires_grad=True)
        y = F.sigmoid_focal_loss(x, t, -1, gamma, "sum")
        y.backward()
        np.testing.assert_allclose([y.item(), *x.grad.tolist()], 0, atol=1e-37)
        x = (-x.detach()).requires_grad_()  # as sure, and wrong
        y = F.sigmoid_focal_loss(x, t, -1, gamma, "sum")
        y.backward()
        np.testing.assert_allclose([y.item(), *x.grad.tolist()], [10_090, sign, sign], rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64])
def test_second_derivatives_of_focal_loss_are_finite_where_predictions_are_sure(gamma, dtype):
    """l ≈ e^(1 + γ)z far on the right side of z = 0, and l ≈ z far on the wrong one."""
    z = np.array([-1e4, -200.0, -100.0, -60.0, -20.0, 200.0])
    for sign in (1.0, -1.0):
        x = fastbp.tensor(sign * z, dtype=dtype, requires_grad=True)
        t = fastbp.full((z.size,), sign < 0, dtype=dtype)
        y = F.sigmoid_focal_loss(x, t, -1, gamma, "sum")
        (first,) = fastbp.autograd.grad(y, [x], create_graph=True)
        (second,) = fastbp.autograd.grad(first.sum(), [x])
        right = np.exp((1 + gamma) * z[:-1])
        expected = [*((1 + gamma) * right), 1.0], [*((1 + gamma) ** 2 * right), 0.0]
        np.testing.assert_allclose(sign * first.detach().numpy(), expected[0], rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(second.numpy(), expected[1], rtol=1e-5, atol=1e-37)


def test_a_mixture_of_one_is_a_normal_distribution():
    x, var, t = values(6, 4), values(6, 4, seed=1).exp(), values(6, 4, seed=2)
    x.requires_grad_()
    one = F.mixture_nll_loss(values(6, 1), x.unsqueeze(1), 0.5 * var.log().unsqueeze(1), t)
    one.backward()
    mixed, x.grad = x.grad.numpy(), None
    normal = F.gaussian_nll_loss(x, t, var, full=True) * 4  # the mean is over elements
    normal.backward()
    assert one.item() == pytest.approx(normal.item(), rel=1e-13)
    np.testing.assert_allclose(mixed, x.grad.numpy(), rtol=1e-12)


def test_a_mixture_far_from_its_target_still_has_gradients():
    """No density is larger than e^−10⁶ there."""
    logits, log_stds = fastbp.zeros(1, 2, requires_grad=True), fastbp.zeros(1, 2, 1, requires_grad=True)
    means = fastbp.tensor([[[0.0], [-1.0]]], requires_grad=True)
    loss = F.mixture_nll_loss(logits, means, log_stds, fastbp.tensor([[2000.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(2e6, rel=1e-5)
    np.testing.assert_allclose(means.grad.numpy().ravel(), [-2000, 0])
    np.testing.assert_allclose(log_stds.grad.numpy().ravel(), [1 - 4e6, 0])
    np.testing.assert_allclose(logits.grad.numpy().ravel(), [-0.5, 0.5])


def test_a_negative_variance_is_bounded_where_nobody_can_look_at_it():
    step = fastbp.compile(lambda x, t, var: F.gaussian_nll_loss(x, t, var, eps=0.5))
    x, t = values(4), values(4, seed=1)
    expected = F.gaussian_nll_loss(x, t, fastbp.full((4,), 0.5, dtype=fastbp.float64)).item()
    assert step(x, t, fastbp.full((4,), -1.0, dtype=fastbp.float64)).item() == expected
    with pytest.raises(ValueError, match=r"^\[gaussian_nll_loss\] expected var > 0, got -1.0"):
        F.gaussian_nll_loss(x, t, fastbp.full((4,), -1.0, dtype=fastbp.float64))


@pytest.mark.parametrize(
    ("loss", "name", "sort"),
    [
        (lambda x: F.gaussian_nll_loss(x, x, 1.0, eps=1e-50), "eps", "> 0"),
        (lambda x: F.huber_loss(x, x, delta=1e-50), "delta", "> 0"),
        (lambda x: F.huber_loss(x, x, delta=1e50), "delta", "as a finite number"),
        (lambda x: F.gaussian_nll_loss(x, x, 1e50), "var", "as a finite number"),
    ],
)
def test_a_constant_is_looked_at_in_the_dtype_of_the_input(loss, name, sort):
    assert math.isfinite(loss(fastbp.zeros(2, dtype=fastbp.float64)).item())
    with pytest.raises(ValueError, match=rf"^\[\w+\] expected {name} {sort} in float32, got 1e.50"):
        loss(fastbp.zeros(2))


def test_a_bound_that_is_0_in_the_dtype_of_the_input_makes_smooth_l1_loss_absolute():
    x = fastbp.tensor([0.0, 2.0, -3.0], requires_grad=True)
    for how in ({}, {"create_graph": True}):
        x.grad = None
        loss = F.smooth_l1_loss(x, fastbp.zeros(3), "sum", beta=1e-50)
        loss.backward(**how)
        assert loss.item() == 5 and x.grad.tolist() == [0, 1, -1]


@pytest.mark.parametrize("label", [3, -1, 2**40])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss], ids=["cross_entropy", "nll_loss"])
def test_labels_out_of_range_are_refused_as_plain_operations(loss, label):
    """Which run for gradients of weights, and where they are asked for."""
    x, t = values(2, 3), fastbp.tensor([label, -100])
    wanted = rf"^\[{loss.__name__}\] expected target classes from 0 to 2 or ignore_index -100, got {label}$"
    for name, size in (("weight", 3), ("sample_weight", 2)):
        weight = fastbp.ones(size, dtype=fastbp.float64, requires_grad=True)
        for reduction in ("none", "sum"):
            with pytest.raises(IndexError, match=wanted):
                loss(x, t, reduction=reduction, **{name: weight})
    mode.composed = True
    try:
        with pytest.raises(IndexError, match=wanted):
            loss(x, t)
    finally:
        mode.composed = False


def test_smoothing_over_no_classes_is_no_loss(composed):
    for target in (fastbp.zeros(3, 0), fastbp.full((3,), -100, dtype=fastbp.int64)):
        assert F.cross_entropy(fastbp.zeros(3, 0), target, label_smoothing=0.1, reduction="sum").item() == 0


def test_a_variance_may_be_a_number():
    x, t = values(4, 2), values(4, 2, seed=1)
    expected = F.gaussian_nll_loss(x, t, fastbp.full((4, 2), 0.5, dtype=fastbp.float64)).item()
    assert F.gaussian_nll_loss(x, t, 0.5).item() == expected


def test_weights_of_columns_and_of_elements_are_told_apart():
    """A weight for each column is that of every row; one for each element is its own."""
    x, t, p = values(3, 2), fastbp.ones(3, 2, dtype=fastbp.float64), values(3, 2, seed=1).exp()
    each = F.binary_cross_entropy_with_logits(x, t, reduction="none").numpy()
    of_elements = F.binary_cross_entropy_with_logits(x, t, pos_weight=p).item()
    of_columns = F.binary_cross_entropy_with_logits(x, t, pos_weight=p[1]).item()
    assert of_elements == pytest.approx((each * p.numpy()).mean(), rel=1e-13)
    assert of_columns == pytest.approx((each * p[1].numpy()).mean(), rel=1e-13)


@pytest.mark.parametrize("penalty", [F.l1_penalty, F.l2_penalty])
def test_a_penalty_is_of_all_tensors(penalty):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    total = penalty(model.parameters())
    arrays = [p.detach().numpy().astype(float) for p in model.parameters()]
    expected = sum((np.abs(a) if penalty is F.l1_penalty else a * a).sum() for a in arrays)
    assert total.item() == pytest.approx(expected, rel=1e-6)
    total.backward()
    for p, a in zip(model.parameters(), arrays):
        np.testing.assert_allclose(p.grad.numpy(), np.sign(a) if penalty is F.l1_penalty else 2 * a, rtol=1e-6)


# --- modules ----------------------------------------------------------------------------------------------------------

X, T = values(4, 3), values(4, 3, seed=1)
SIGNS, PROBABILITIES, CLASSES = (T > 0) * 2.0 - 1, fastbp.softmax(T, 1), fastbp.tensor([0, 2, 1, 1])
W = fastbp.tensor([0.5, 2.0, 1.0, 3.0], dtype=fastbp.float64)
# (module, what it is called with, the function with the same options)
MODULES = [
    (nn.MSELoss("sum"), (X, T), lambda *a: F.mse_loss(*a[:2], "sum", a[2])),
    (nn.L1Loss("sum"), (X, T), lambda *a: F.l1_loss(*a[:2], "sum", a[2])),
    (nn.HuberLoss("sum", 0.3), (X, T), lambda *a: F.huber_loss(*a[:2], "sum", 0.3, a[2])),
    (nn.SmoothL1Loss("sum", 0.3), (X, T), lambda *a: F.smooth_l1_loss(*a[:2], "sum", 0.3, a[2])),
    (nn.QuantileLoss((0.2, 0.5, 0.7)), (X, T[:, 0]), lambda *a: F.quantile_loss(*a[:2], [0.2, 0.5, 0.7], "mean", a[2])),
    (nn.BCELoss("sum"), (PROBABILITIES, PROBABILITIES), lambda *a: F.binary_cross_entropy(*a[:2], "sum", a[2])),
    (
        nn.BCEWithLogitsLoss(fastbp.arange(3.0)),
        (X, PROBABILITIES),
        lambda *a: F.binary_cross_entropy_with_logits(*a[:2], "mean", fastbp.arange(3.0), a[2]),
    ),
    (
        nn.SigmoidFocalLoss(0.3, 1.5, "sum"),
        (X, PROBABILITIES),
        lambda *a: F.sigmoid_focal_loss(*a[:2], 0.3, 1.5, "sum", a[2]),
    ),
    (nn.HingeLoss("sum"), (X, SIGNS), lambda *a: F.hinge_loss(*a[:2], "sum", a[2])),
    (nn.HingeEmbeddingLoss(0.3, "sum"), (X, SIGNS), lambda *a: F.hinge_embedding_loss(*a[:2], 0.3, "sum", a[2])),
    (nn.PoissonNLLLoss(False, True, 1.0), (X.abs(), T.abs()), lambda *a: F.poisson_nll_loss(
        *a[:2], log_input=False, full=True, eps=1.0, sample_weight=a[2])),
    (nn.GaussianNLLLoss(True, 0.5), (X, T, PROBABILITIES), lambda *a: F.gaussian_nll_loss(
        *a[:3], full=True, eps=0.5, sample_weight=a[3])),
    (nn.MixtureNLLLoss("sum"), (X, T.unsqueeze(2), X.unsqueeze(2), T[:, :1]),
        lambda *a: F.mixture_nll_loss(*a[:4], "sum", a[4])),
    (nn.KLDivLoss("batchmean", True), (X, T), lambda *a: F.kl_div(*a[:2], "batchmean", True, a[2])),
    (nn.CrossEntropyLoss(label_smoothing=0.2), (X, CLASSES), lambda *a: F.cross_entropy(
        *a[:2], label_smoothing=0.2, sample_weight=a[2])),
    (nn.NLLLoss(fastbp.arange(3.0), 0), (X, CLASSES), lambda *a: F.nll_loss(
        *a[:2], fastbp.arange(3.0), ignore_index=0, sample_weight=a[2])),
    (nn.CosineEmbeddingLoss(0.2, "sum"), (X, T, SIGNS[:, 0]), lambda *a: F.cosine_embedding_loss(
        *a[:3], 0.2, "sum", a[3])),
]  # fmt: skip


@pytest.mark.parametrize(("module", "inputs", "function"), MODULES, ids=lambda value: type(value).__name__)
def test_a_module_is_its_function_with_its_options(module, inputs, function):
    for weight in (None, W):
        got, expected = module(*inputs, sample_weight=weight).item(), function(*inputs, weight).item()
        assert got == expected and math.isfinite(got)
    assert module(*inputs, sample_weight=W).item() != module(*inputs).item()


def test_every_loss_has_its_module():
    assert {type(module) for module, _, _ in MODULES} == {getattr(nn.loss, name) for name in nn.loss.__all__}
