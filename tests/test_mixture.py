"""MixtureDensity and Mixture: density, mean and samples, beside SciPy and PyTorch."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim


def mixture(n: int = 5, k: int = 3, d: int = 2, dtype: str = "float64") -> nn.Mixture:
    rng = np.random.default_rng(0)
    shapes = (n, k), (n, k, d), (n, k, d)
    return nn.Mixture(*(fastbp.tensor(rng.standard_normal(shape).astype(dtype)) for shape in shapes))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_density_and_its_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    ours, target = mixture(), fastbp.tensor(np.random.default_rng(1).standard_normal((5, 2)))
    parts = [torch.tensor(part.numpy()).requires_grad_() for part in ours]
    D = torch.distributions
    normal = D.Independent(D.Normal(parts[1], parts[2].exp()), 1)
    theirs = D.MixtureSameFamily(D.Categorical(logits=parts[0]), normal)
    expected = theirs.log_prob(torch.tensor(target.numpy()))
    expected.sum().backward()
    for part in ours:
        part.requires_grad_()
    actual = ours.log_prob(target)
    actual.sum().backward()
    np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    for a, b in zip(ours, parts):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ours.mean().detach().numpy(), theirs.mean.detach().numpy(), rtol=1e-12)


def test_densities_far_out_and_narrow_ones_do_not_overflow():
    one = nn.Mixture(fastbp.zeros(1, 1), fastbp.zeros(1, 1, 1), fastbp.full((1, 1, 1), -20.0))
    expected = -0.5 * np.exp(40.0) + 20 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(one.log_prob(fastbp.ones(1, 1)).numpy(), [expected], rtol=1e-5)


@pytest.fixture(params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield


LEAST_LOG_STD = {fastbp.float32: -88.0, fastbp.float64: -709.0}


@pytest.mark.parametrize("dtype", LEAST_LOG_STD)
@pytest.mark.parametrize("how", [{}, {"create_graph": True}], ids=["fused", "recorded"])
def test_deviations_of_a_mixture_are_bounded_from_below(dtype, how, backend):
    logits = fastbp.zeros(1, 2, dtype=dtype, requires_grad=True)
    means = fastbp.tensor([[[3.0], [4.0]]], dtype=dtype, requires_grad=True)
    log_stds = fastbp.full((1, 2, 1), -1000.0, dtype=dtype, requires_grad=True)
    loss = nn.functional.mixture_nll_loss(logits, means, log_stds, fastbp.tensor([[3.0]], dtype=dtype))
    loss.backward(**how)
    assert loss.item() == pytest.approx(LEAST_LOG_STD[dtype] + math.log(2) + 0.5 * math.log(2 * math.pi), rel=1e-6)
    assert logits.grad.tolist() == [[-0.5, 0.5]]
    assert means.grad.tolist() == [[[0.0], [0.0]]] and log_stds.grad.tolist() == [[[1.0], [0.0]]]


@pytest.mark.parametrize("dtype", LEAST_LOG_STD)
@pytest.mark.parametrize("how", [{}, {"create_graph": True}], ids=["fused", "recorded"])
def test_a_row_whose_mixture_loss_is_no_number_has_no_gradients(dtype, how, backend):
    """Its neighbour's are what they are alone."""
    far = {fastbp.float32: -30.0, fastbp.float64: -350.0}[dtype]

    def gradients(rows):
        logits = fastbp.zeros(2, 2, dtype=dtype)[:rows].detach().requires_grad_()
        means = fastbp.tensor([[[0.0], [1.0]], [[0.0], [1.0]]], dtype=dtype)[:rows].detach().requires_grad_()
        log_stds = fastbp.tensor([[[0.0], [0.5]], [[far], [far]]], dtype=dtype)[:rows].detach().requires_grad_()
        target = fastbp.tensor([[0.3], [1e7]], dtype=dtype)[:rows]
        loss = nn.functional.mixture_nll_loss(logits, means, log_stds, target, "sum")
        loss.backward(**how)
        return loss.item(), [p.grad.detach().numpy() for p in (logits, means, log_stds)]

    (alone, expected), (both, actual) = gradients(1), gradients(2)
    assert math.isfinite(alone) and both == math.inf
    for one, two in zip(expected, actual):
        np.testing.assert_allclose(two[:1], one, rtol=1e-6)
        assert not two[1:].any()


def test_samples_have_the_mean_and_the_spread_of_the_mixture():
    n, k, d = 100_000, 3, 2
    row = mixture(1, k, d)
    many = nn.Mixture(*(part.expand(n, *part.shape[1:]) for part in row))
    fastbp.manual_seed(4)
    drawn = many.sample().numpy()
    weights = softmax(row.logits.numpy())[0, :, None]
    means, variances = row.means.numpy()[0], np.exp(2 * row.log_stds.numpy()[0])
    mean = (weights * means).sum(0)
    variance = (weights * (variances + means**2)).sum(0) - mean**2
    np.testing.assert_allclose(drawn.mean(0), mean, atol=6 * np.sqrt(variance.max() / n))
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.05)


def test_components_are_chosen_by_their_weights():
    weights = np.array([0.5, 0.2, 0.3])
    n = 50_000
    logits = fastbp.tensor(np.log(weights)).expand(n, 3)
    places = fastbp.tensor(np.array([[0.0], [10.0], [20.0]])).expand(n, 3, 1)
    fastbp.manual_seed(1)
    drawn = nn.Mixture(logits, places, fastbp.full((n, 3, 1), -5.0, dtype="float64")).sample().numpy()
    counts = np.bincount(np.round(drawn[:, 0] / 10).astype(int), minlength=3)
    np.testing.assert_allclose(counts / n, weights, atol=0.012)  # five standard deviations


def test_samples_are_repeatable_and_have_no_gradient():
    m = mixture()
    m.means.requires_grad_()
    fastbp.manual_seed(7)
    first = m.sample()
    fastbp.manual_seed(7)
    assert m.sample().tolist() == first.tolist() and m.sample().tolist() != first.tolist()
    generators = [fastbp.Generator(3), fastbp.Generator(3)]
    state = fastbp.ops.random.default_generator.get_state()
    a, b = (m.sample(generator=g) for g in generators)
    assert a.tolist() == b.tolist() and not a.requires_grad
    assert fastbp.ops.random.default_generator.get_state() == state


def test_a_component_that_is_switched_off_is_never_drawn():
    logits = fastbp.tensor([[0.0, -np.inf]] * 1000)
    m = nn.Mixture(logits, fastbp.tensor([[[0.0], [9.0]]]).expand(1000, 2, 1), fastbp.full((1000, 2, 1), -3.0))
    assert np.abs(m.sample().numpy()).max() < 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_layer_gives_a_mixture(dtype):
    layer = nn.MixtureDensity(4, 2, 3, dtype=dtype)
    x = fastbp.ones(5, 4, dtype=dtype)
    m = layer(x)
    assert [tuple(part.shape) for part in m] == [(5, 3), (5, 3, 2), (5, 3, 2)]
    flat = np.concatenate([part.detach().numpy().reshape(5, -1) for part in m], 1)
    np.testing.assert_array_equal(flat, layer.linear(x).detach().numpy())
    assert m.mean().shape == m.sample().shape == (5, 2) and m.log_prob(m.sample()).shape == (5,)
    assert m.sample().dtype is layer.linear.weight.dtype
    assert list(layer.state_dict()) == ["linear.weight", "linear.bias"]


def fitted(seed: int = 0) -> tuple[nn.Module, list[float]]:
    """A network for y with x = y + 0.3 sin(2πy) + noise, which has several answers (Bishop's example)."""
    fastbp.manual_seed(seed)
    rng = np.random.default_rng(seed)
    y = rng.uniform(size=(200, 1))
    x = y + 0.3 * np.sin(2 * np.pi * y) + rng.uniform(-0.05, 0.05, y.shape)
    data = [fastbp.tensor(a.astype(np.float32)) for a in (x, y)]
    model = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.MixtureDensity(20, 1, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.03)

    @fastbp.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.mixture_nll_loss(*model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, [step(*data).item() for _ in range(1500)]


def test_training_finds_several_answers():
    model, losses = fitted()
    assert losses[-1] < losses[0] - 1
    with fastbp.no_grad():
        drawn = model(fastbp.full((500, 1), 0.5)).sample().numpy()
    assert (drawn < 0.35).mean() > 0.1 and (drawn > 0.65).mean() > 0.1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(copied):
    layer = nn.MixtureDensity(4, 2, 3)
    x = fastbp.ones(5, 4)
    assert copied(layer)(x).means.tolist() == layer(x).means.tolist()
    assert copied(mixture()).means.tolist() == mixture().means.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.MixtureDensity(4, 0, 3),
            r"\[MixtureDensity\] expected out_features to be an int",
        ),
        (
            lambda: nn.MixtureDensity(4, 2, 0),
            r"\[MixtureDensity\] expected components to be an int",
        ),
        (lambda: nn.MixtureDensity(4, 2, 3)(fastbp.ones(4)), r"\[MixtureDensity\] expected input of shape \(N, in_f"),
        (lambda: mixture().log_prob(fastbp.ones(5, dtype="float64")), r"expected target .*\(5, 2\).*, got .*\(5,\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sample_expects_a_generator():
    mixture = nn.MixtureDensity(2, 1, 3)(fastbp.ones(4, 2))
    with pytest.raises(TypeError, match=r"\[Mixture.sample\] expected generator as a Generator or None, got 3"):
        mixture.sample(3)
