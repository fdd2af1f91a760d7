"""MLP, Residual, Concatenate, Sine, FourierFeatures, MaskedLinear: what they compute, and what they refuse."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim
from fastbp.nn import functional as F


def values(*shape: int, seed: int = 0) -> Any:
    return fastbp.tensor(np.random.default_rng(seed).standard_normal(shape))


# --- MLP --------------------------------------------------------------------------------------------------------------


def test_an_mlp_is_a_sequential_of_its_parts():
    model = nn.MLP(5, (7, 6), 3, activation=nn.Tanh, dropout=0.2, norm=nn.LayerNorm, bias=False)
    kinds = [type(module).__name__ for module in model]
    hidden = ["Linear", "LayerNorm", "Tanh", "Dropout"]
    assert kinds == [*hidden, *hidden, "Linear"]
    assert [tuple(p.shape) for name, p in model.named_parameters() if p.ndim == 2] == [(7, 5), (6, 7), (3, 6)]
    assert all(module.bias is None for module in model if isinstance(module, nn.Linear))
    assert [module.p for module in model if isinstance(module, nn.Dropout)] == [0.2, 0.2]
    x = fastbp.ones(4, 5)
    model.eval()
    y = x
    for module in model:
        y = module(y)
    assert model(x).tolist() == y.tolist()


def test_an_mlp_of_few_parts():
    assert [type(module).__name__ for module in nn.MLP(5, (7,), 3)] == ["Linear", "ReLU", "Linear"]
    assert [type(module).__name__ for module in nn.MLP(5, (), 3)] == ["Linear"]
    assert list(nn.MLP(2, [3], 4).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert nn.MLP(2, [3], 4, activation=lambda: nn.LeakyReLU(0.3))[1].negative_slope == 0.3


def test_part_of_an_mlp_is_a_sequential_of_the_same_modules():
    model = nn.MLP(5, (7, 6), 3)
    part = model[:2]
    assert type(part) is nn.Sequential and part[0] is model[0] and part(fastbp.ones(2, 5)).shape == (2, 7)


# --- Residual and Concatenate -----------------------------------------------------------------------------------------


def test_residual_adds_its_input():
    inner = nn.Linear(4, 4, dtype="float64")
    x = values(3, 4).requires_grad_()
    y = nn.Residual(inner)(x)
    np.testing.assert_array_equal(y.detach().numpy(), (x + inner(x)).detach().numpy())
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 + inner.weight.detach().numpy().sum(0) * np.ones((3, 1)), rtol=1e-13)
    assert list(nn.Residual(inner).state_dict()) == ["module.weight", "module.bias"]


@pytest.mark.parametrize("width", [1, 5])
def test_residual_refuses_another_shape_even_one_that_would_broadcast(width):
    with pytest.raises(
        ValueError, match=rf"\[Residual\] expected the module to keep the shape \(3, 4\), got \(3, {width}\)"
    ):
        nn.Residual(nn.Linear(4, width))(fastbp.ones(3, 4))


def test_concatenate_puts_outputs_side_by_side():
    a, b = nn.Linear(4, 2), nn.Tanh()
    x = fastbp.ones(3, 4)
    np.testing.assert_array_equal(
        nn.Concatenate(a, b)(x).detach().numpy(), fastbp.cat([a(x), b(x)], 1).detach().numpy()
    )
    assert nn.Concatenate(b, b, b, dim=0)(x).shape == (9, 4)
    assert [name for name, _ in nn.Concatenate(a, b).named_parameters()] == ["branches.0.weight", "branches.0.bias"]
    with pytest.raises(ValueError, match=r"\[Concatenate\] expected at least one module, got none"):
        nn.Concatenate()


# --- sine networks and Fourier features -------------------------------------------------------------------------------


def test_sine_is_the_sine_of_a_multiple():
    x = values(50)
    np.testing.assert_allclose(F.sine(x).numpy(), np.sin(30 * x.numpy()), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(nn.Sine(omega=2.5)(x).numpy(), np.sin(2.5 * x.numpy()), rtol=1e-12, atol=1e-15)
    assert repr(nn.Sine()) == "Sine(omega=30.0)"
    assert F.sine(fastbp.arange(3), 1).dtype is fastbp.float32


@pytest.mark.parametrize(("first", "bound"), [(True, 1 / 40), (False, math.sqrt(6 / 40) / 20)])
def test_siren_bounds(first, bound):
    fastbp.manual_seed(0)
    w = nn.init.siren_uniform_(fastbp.zeros(500, 40), omega=20, first=first).numpy()
    assert bound * 0.99 < np.abs(w).max() <= bound and w.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_siren_uniform_says_what_it_expects():
    with pytest.raises(ValueError, match=r"\[siren_uniform_\] expected omega > 0, got 0"):
        nn.init.siren_uniform_(fastbp.zeros(2, 2), omega=0)
    with pytest.raises(ValueError, match=r"\[siren_uniform_\] expected a tensor with at least 2 dimensions"):
        nn.init.siren_uniform_(fastbp.zeros(2))


def test_activations_of_a_siren_keep_their_spread():
    """As Sitzmann et al. show: inputs of all sines but the first are standard normal, at any depth."""
    fastbp.manual_seed(0)
    h = fastbp.rand(2000, 2) * 2 - 1
    for layer in range(6):
        linear = nn.Linear(h.shape[1], 256)
        nn.init.siren_uniform_(linear.weight, first=layer == 0)
        nn.init.zeros_(linear.bias)
        phase = 30 * linear(h)
        if layer > 1:
            assert phase.std().item() == pytest.approx(1, abs=0.2)  # the first sine is not yet of a full circle
        h = F.sine(linear(h)).detach()


def test_fourier_features():
    fastbp.manual_seed(0)
    layer = nn.FourierFeatures(3, 5, scale=2.0, dtype="float64")
    x = values(2, 4, 3)
    phase = 2 * np.pi * x.numpy() @ layer.B.numpy().T
    expected = np.concatenate([np.cos(phase), np.sin(phase)], -1)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-11, atol=1e-13)
    assert list(layer.state_dict()) == ["B"] and list(layer.parameters()) == []
    assert nn.FourierFeatures(50, 400, scale=3.0).B.std().item() == pytest.approx(3, rel=0.02)
    assert nn.FourierFeatures(2, 3, scale=0.0)(fastbp.ones(1, 2)).tolist() == [[1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3), r"\[FourierFeatures\] expected in_features to be an int of at least 1, got 0"),
        ((3, 1.5), r"\[FourierFeatures\] expected features to be an int of at least 1, got 1.5"),
        ((3, 3, -1.0), r"\[FourierFeatures\] expected scale ≥ 0, got -1.0"),
    ],
)
def test_fourier_features_say_what_they_expect(arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.FourierFeatures(*arguments)


# --- masked layers ----------------------------------------------------------------------------------------------------


def test_a_masked_layer_leaves_weights_out():
    mask = np.array([[1, 0, 1], [0, 0, 1]], bool)
    layer = nn.MaskedLinear(3, 2, mask, dtype="float64")
    x = values(4, 3)
    layer(x).square().sum().backward()
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() @ (w * mask).T + b, rtol=1e-13)
    assert ((layer.weight.grad.numpy() != 0) == mask).all()
    assert list(layer.state_dict()) == ["weight", "bias", "mask"] and layer.mask.dtype is fastbp.float64
    assert list(nn.MaskedLinear(3, 2, mask, bias=False).state_dict()) == ["weight", "mask"]
    assert nn.MaskedLinear(3, 2, fastbp.tensor(mask)).mask.tolist() == mask.astype(float).tolist()
    with pytest.raises(ValueError, match=r"\[MaskedLinear\] expected mask of shape \(2, 3\), got \(3, 2\)"):
        nn.MaskedLinear(3, 2, mask.T)


def test_a_mask_is_a_copy():
    mask = fastbp.ones(2, 3)
    layer = nn.MaskedLinear(3, 2, mask)
    mask.zero_()
    assert layer.mask.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("order", [None, [2, 0, 3, 1]])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("hidden", [(), (3,), (10, 7), (5, 30, 5)])
def test_autoregressive_masks_let_outputs_see_what_comes_before_alone(hidden, outputs, order):
    features = 4
    masks = nn.MaskedLinear.autoregressive_masks(features, hidden, outputs, order)
    widths = (features, *hidden, features * outputs)
    fastbp.manual_seed(1)
    layers = [nn.MaskedLinear(a, b, m, dtype="float64") for (a, b), m in zip(pairwise(widths), masks, strict=True)]
    model = nn.Sequential(*(module for layer in layers for module in (layer, nn.Tanh())))
    place = list(range(features)) if order is None else order
    x = values(features).requires_grad_()
    for i in range(features):
        for output in range(i * outputs, (i + 1) * outputs):
            x.grad = None
            model(x)[output].backward()
            seen = {j for j in range(features) if x.grad.numpy()[j] != 0}
            assert seen <= {j for j in range(features) if place[j] < place[i]}
            if min(hidden, default=features) >= features - 1:  # enough units that each feature is seen
                assert seen == {j for j in range(features) if place[j] < place[i]}


def test_a_single_feature_sees_nothing():
    masks = nn.MaskedLinear.autoregressive_masks(1, (3,), 2)
    assert [tuple(m.shape) for m in masks] == [(3, 1), (2, 3)] and not masks[1].any().item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (3,)), r"\[autoregressive_masks\] expected features to be an int of at least 1, got 0"),
        ((3, (0,)), r"\[autoregressive_masks\] expected hidden\[0\] to be an int of at least 1, got 0"),
        ((3, (4,), 1, [0, 1, 1]), r"\[autoregressive_masks\] expected order as a permutation of 0 to 2, got"),
    ],
)
def test_autoregressive_masks_say_what_they_expect(arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.MaskedLinear.autoregressive_masks(*arguments)


# --- what constructors refuse -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.MLP(4, 8, 2), TypeError, r"\[MLP\] expected hidden as a sequence of widths, got 8"),
        (lambda: nn.MLP(4, "8", 2), TypeError, r"\[MLP\] expected hidden as a sequence of widths, got '8'"),
        (
            lambda: nn.MLP(4, (8, 2.5), 2),
            ValueError,
            r"\[MLP\] expected hidden\[1\] to be an int of at least 1, got 2.5",
        ),
        (lambda: nn.MLP("a", (8,), 2), ValueError, r"\[MLP\] expected in_features to be an int of at least 0, got 'a'"),
        (lambda: nn.MLP(4, (8,), 2, nn.ReLU()), TypeError, r"\[MLP\] expected activation as what .*, got ReLU\(\)"),
        (lambda: nn.MLP(4, (8,), 2, "relu"), TypeError, r"\[MLP\] expected activation as what .*, got 'relu'"),
        (lambda: nn.MLP(4, (8,), 2, dict), TypeError, r"\[MLP\] expected modules, got dict"),
        (lambda: nn.MLP(4, (8,), 2, norm=3), TypeError, r"\[MLP\] expected norm as what makes a module.*, got 3"),
        (lambda: nn.MLP(4, (8,), 2, dropout="a"), TypeError, r"\[Dropout\] expected p as a number, got str"),
        (lambda: nn.Dropout("a"), TypeError, r"\[Dropout\] expected p as a number, got str"),
        (lambda: nn.Dropout(math.nan), ValueError, r"\[Dropout\] expected p as a finite number, got nan"),
        (lambda: nn.Residual(3), TypeError, r"\[Residual\] expected a module, got 3"),
        (lambda: nn.Sine("a"), TypeError, r"\[Sine\] expected omega as a number, got str"),
        (lambda: nn.LeakyReLU(None), TypeError, r"\[LeakyReLU\] expected negative_slope as a number, got NoneType"),
        (lambda: nn.FourierFeatures(3, 4, "a"), TypeError, r"\[FourierFeatures\] expected scale as a number, got str"),
        (lambda: nn.FourierFeatures(3, 4, math.nan), ValueError, r"expected scale as a finite number, got nan"),
        (lambda: nn.MaskedLinear(3, 2, None), TypeError, r"\[MaskedLinear\] expected mask as a tensor or .*, got None"),
        (lambda: nn.MaskedLinear(3, 2, "a"), TypeError, r"\[MaskedLinear\] expected mask as a tensor or .*, got 'a'"),
        (
            lambda: nn.MaskedLinear(1, 2, [[1], [0.5]]),
            ValueError,
            r"\[MaskedLinear\] expected mask of 0 and 1, got 0.5",
        ),
        (
            lambda: nn.MaskedLinear(1, 1, [[math.nan]]),
            ValueError,
            r"\[MaskedLinear\] expected mask of 0 and 1, got nan",
        ),
        (lambda: nn.MaskedLinear(1, 1, fastbp.tensor([[2]])), ValueError, r"expected mask of 0 and 1, got 2"),
        (
            lambda: nn.Embedding(5, 2, padding_idx=1.5),
            TypeError,
            r"\[Embedding\] expected padding_idx as an int .* 1.5",
        ),
        (lambda: nn.Embedding(5, 2, padding_idx=True), TypeError, r"expected padding_idx as an int or None, got True"),
    ],
)
def test_a_constructor_says_what_it_expects(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, 5), TypeError, r"\[autoregressive_masks\] expected hidden as a sequence of widths, got 5"),
        (("a", (2,)), ValueError, r"\[autoregressive_masks\] expected features to be an int of at least 1, got 'a'"),
        ((3, (2,), 1, 3), ValueError, r"\[autoregressive_masks\] expected order as a permutation of 0 to 2, got 3"),
    ],
)
def test_autoregressive_masks_refuse_other_types(arguments, error, message):
    with pytest.raises(error, match=message):
        nn.MaskedLinear.autoregressive_masks(*arguments)


# --- as modules -------------------------------------------------------------------------------------------------------

MODULES = {
    "mlp": lambda: nn.MLP(4, (6,), 4, norm=nn.BatchNorm1d, dropout=0.1),
    "residual": lambda: nn.Residual(nn.MLP(4, (6,), 4)),
    "concatenate": lambda: nn.Concatenate(nn.Linear(4, 2), nn.Linear(4, 3)),
    "sine": lambda: nn.Sequential(nn.Linear(4, 6), nn.Sine()),
    "fourier": lambda: nn.Sequential(nn.FourierFeatures(4, 3), nn.Linear(6, 2)),
    "masked": lambda: nn.MaskedLinear(4, 3, np.eye(3, 4)),
}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("name", MODULES)
def test_copies_are_equal_and_train_on_their_own(name, copied):
    model = MODULES[name]()
    twin = copied(model)
    x = values(5, 4).float()
    state = {key: value.tolist() for key, value in model.state_dict().items()}
    assert {key: value.tolist() for key, value in twin.state_dict().items()} == state and repr(twin) == repr(model)
    assert twin.eval()(x).tolist() == model.eval()(x).tolist()
    twin.train()(x).sum().backward()
    optim.SGD(twin.parameters(), lr=0.1).step()
    assert {key: value.tolist() for key, value in model.state_dict().items()} == state
    assert {key: value.tolist() for key, value in twin.state_dict().items()} != state
