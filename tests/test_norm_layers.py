"""nn.LayerNorm, nn.RMSNorm and nn.BatchNorm1d beside PyTorch's: checkpoints, training, modes, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim

torch = pytest.importorskip("torch")

ROWS, INPUTS, HIDDEN, OUTPUTS = 16, 6, 9, 4
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "layer": ("LayerNorm", {}),
    "layer without bias": ("LayerNorm", {"bias": False, "eps": 1e-3}),
    "layer without weights": ("LayerNorm", {"elementwise_affine": False}),
    "rms": ("RMSNorm", {}),
    "rms without weights": ("RMSNorm", {"elementwise_affine": False, "eps": 1e-3}),
    "batch": ("BatchNorm1d", {}),
    "batch without weights": ("BatchNorm1d", {"affine": False, "momentum": 0.4}),
    "batch, means over all": ("BatchNorm1d", {"momentum": None}),
    "batch without statistics": ("BatchNorm1d", {"track_running_stats": False, "eps": 1e-3}),
}
TOLERANCE = {"float64": {"rtol": 1e-10, "atol": 1e-12}, "float32": {"rtol": 1e-5, "atol": 1e-5}}


def data(t: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(t).standard_normal(shape)


def network(library: Any, name: str) -> Any:
    """A network with the layer between two others, whose weights NumPy draws."""
    kind, options = LAYERS[name]
    norm = getattr(library.nn, kind)(HIDDEN, **options)
    model = library.nn.Sequential(
        library.nn.Linear(INPUTS, HIDDEN), norm, library.nn.Tanh(), library.nn.Linear(HIDDEN, OUTPUTS)
    ).double()
    drawn = {key: data(i, *value.shape) * 0.5 for i, (key, value) in enumerate(model.state_dict().items())}
    model.load_state_dict(
        {
            key: library.tensor(np.abs(drawn[key]) if "var" in key else drawn[key]).to(value.dtype)
            for key, value in model.state_dict().items()
        }
    )
    return model


def arrays(model: Any) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def assert_alike(ours: Any, theirs: Any, dtype: str = "float64") -> None:
    a, b = arrays(ours), arrays(theirs)
    assert list(a) == list(b)
    for name, value in b.items():
        assert a[name].dtype == value.dtype and a[name].shape == value.shape, name
        np.testing.assert_allclose(a[name], value, err_msg=name, **TOLERANCE[dtype])


# --- beside PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_training_for_50_steps(name, dtype):
    losses, models = [], []
    for library in (torch, fastbp):
        model = network(library, name).to(dtype=getattr(library, dtype))
        optimizer = library.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        seen = []
        for t in range(50):
            x, y = (library.tensor(data(t, ROWS, n).astype(dtype)) for n in (INPUTS, OUTPUTS))
            optimizer.zero_grad()
            loss = library.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        model.eval()
        with library.no_grad():
            seen += model(library.tensor(data(50, ROWS, INPUTS).astype(dtype))).numpy().ravel().tolist()
        losses.append(seen)
        models.append(model)
    np.testing.assert_allclose(losses[1], losses[0], **TOLERANCE[dtype])
    assert_alike(*models[::-1], dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_checkpoints_go_both_ways(name):
    theirs, ours = network(torch, name), network(fastbp, name)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(1.0)
        theirs(torch.tensor(data(0, ROWS, INPUTS)))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    assert_alike(ours, theirs)
    again = network(torch, name)
    again.load_state_dict({key: torch.tensor(value.numpy()) for key, value in ours.state_dict().items()})
    assert_alike(ours, again)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_start_as_pytorchs(name):
    kind, options = LAYERS[name]
    ours, theirs = (getattr(library.nn, kind)(3, **options) for library in (fastbp, torch))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key].numpy(), value.numpy(), strict=True)


def test_layers_are_written_with_their_options():
    assert repr(nn.LayerNorm((2, 3))) == "LayerNorm((2, 3), eps=1e-05, elementwise_affine=True, bias=True)"
    assert repr(nn.RMSNorm(3)) == "RMSNorm((3,), eps=None, elementwise_affine=True)"
    expected = "BatchNorm1d(3, eps=1e-05, momentum=None, affine=False, bias=False, track_running_stats=True)"
    assert repr(nn.BatchNorm1d(3, momentum=None, affine=False)) == expected


def test_batch_norm_without_bias():
    layer = nn.BatchNorm1d(3, bias=False)
    assert list(layer.state_dict()) == ["weight", "running_mean", "running_var", "num_batches_tracked"]
    np.testing.assert_allclose(layer(fastbp.tensor(data(0, 9, 3)).float()).detach().numpy().mean(0), 0, atol=1e-6)


def test_channels_of_sequences():
    results = []
    for library in (torch, fastbp):
        layer = library.nn.BatchNorm1d(5).double()
        x = library.tensor(data(0, 4, 5, 3)).requires_grad_()
        y = layer(x)
        y.backward(library.tensor(data(1, 4, 5, 3)))
        layer.eval()
        results.append([y.detach(), x.grad, layer.weight.grad, layer.running_var, layer(x).detach()])
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-12, atol=1e-14)


def test_several_dimensions_at_once():
    x = data(0, 4, 5, 3)
    results = [getattr(library.nn, kind)((5, 3))(library.tensor(x.astype(np.float32))).detach().numpy()
               for kind in ("LayerNorm", "RMSNorm") for library in (torch, fastbp)]  # fmt: skip
    for expected, actual in zip(results[::2], results[1::2]):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# --- batch norm's modes -----------------------------------------------------------------------------------------------


def test_evaluation_changes_nothing_and_does_not_look_at_other_rows():
    layer, x = nn.BatchNorm1d(5), fastbp.tensor(data(0, 8, 5).astype(np.float32))
    layer(x)
    layer.eval()
    before = arrays(layer)
    whole = layer(x).detach().numpy()
    assert layer(x[2:3]).detach().numpy().tobytes() == whole[2:3].tobytes()
    assert {name: value.tolist() for name, value in arrays(layer).items()} == {
        name: value.tolist() for name, value in before.items()
    }


def test_training_counts_batches_until_they_are_reset():
    layer, x = nn.BatchNorm1d(5), fastbp.tensor(data(0, 8, 5).astype(np.float32))
    for _ in range(3):
        layer(x)
    assert layer.num_batches_tracked.item() == 3 and layer.num_batches_tracked.dtype is fastbp.int64
    layer.reset_running_stats()
    assert layer.num_batches_tracked.item() == 0
    assert layer.running_mean.tolist() == [0] * 5 and layer.running_var.tolist() == [1] * 5


def test_statistics_are_not_tracked_while_that_is_switched_off():
    layer, x = nn.BatchNorm1d(5), fastbp.tensor(data(0, 8, 5).astype(np.float32))
    layer.track_running_stats = False
    layer(x)
    assert layer.num_batches_tracked.item() == 0 and layer.running_mean.tolist() == [0] * 5


def test_frozen_in_evaluation_its_weights_still_learn():
    layer, x = nn.BatchNorm1d(5), fastbp.tensor(data(0, 8, 5).astype(np.float32))
    layer(x)
    layer.eval()
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None and (layer.weight.grad.numpy() != 0).all()


# --- as modules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("name", LAYERS)
def test_copies_train_on_their_own(name, copied):
    model, x = network(fastbp, name), fastbp.tensor(data(0, ROWS, INPUTS))
    model(x)
    twin = copied(model)
    assert_alike(twin, model)
    before = arrays(model)
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    twin(x).square().sum().backward()
    optimizer.step()
    for key, value in arrays(model).items():
        np.testing.assert_array_equal(value, before[key])
    assert any((value != before[key]).any() for key, value in arrays(twin).items())


def test_conversion_keeps_the_count_an_integer():
    layer = nn.BatchNorm1d(3).double()
    assert layer.running_mean.dtype is layer.weight.dtype is fastbp.float64
    assert layer.num_batches_tracked.dtype is fastbp.int64
    assert nn.LayerNorm(3, dtype="float64").weight.dtype is nn.RMSNorm(3, dtype="float64").weight.dtype
    assert nn.BatchNorm1d(3, dtype="float64").running_var.dtype is fastbp.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LayerNorm(()), r"\[LayerNorm\] expected normalized_shape of at least one dimension, got \(\)"),
        (lambda: nn.RMSNorm((2, -1)), r"\[RMSNorm\] expected at most 8 sizes ≥ 0"),
        (lambda: nn.BatchNorm1d(-1), r"\[BatchNorm1d\] expected num_features to be an int of at least 0, got -1"),
        (lambda: nn.BatchNorm1d(3)(fastbp.ones(3)), r"\[BatchNorm1d\] expected input \(N, C\) or \(N, C, L\) with"),
        (lambda: nn.BatchNorm1d(3)(fastbp.ones(2, 4)), r"expected input .* with C = 3, got \(2, 4\)"),
        (lambda: nn.BatchNorm1d(3)(fastbp.ones(1, 3)), r"\[batch_norm\] expected more than one value of each channel"),
        (
            lambda: nn.LayerNorm(3)(fastbp.ones(2, 4)),
            r"\[layer_norm\] expected input of shape \(..., 3\), got \(2, 4\)",
        ),
    ],
)
def test_layers_say_what_they_expect(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d])
@pytest.mark.parametrize(
    ("eps", "error"), [("a", TypeError), (True, TypeError), (-1.0, ValueError), (np.nan, ValueError)]
)
def test_eps_is_checked_at_construction(layer, eps, error):
    with pytest.raises(error, match=rf"\[{layer.__name__}\] expected eps (as a .*number|≥ 0), got "):
        layer(3, eps=eps)


@pytest.mark.parametrize(
    ("momentum", "error"),
    [("a", TypeError), (np.nan, ValueError), (2.0, ValueError), (-0.1, ValueError), (True, TypeError)],
)
def test_momentum_is_checked_at_construction(momentum, error):
    with pytest.raises(error, match=r"\[BatchNorm1d\] expected momentum (as a .*number|[≤≥] [01]), got "):
        nn.BatchNorm1d(3, momentum=momentum)


def test_an_epsilon_is_none_in_rms_norm_alone():
    assert nn.RMSNorm(3, eps=None).eps is None
    for layer in (nn.LayerNorm, nn.BatchNorm1d):
        with pytest.raises(TypeError, match=rf"\[{layer.__name__}\] expected eps as a number, got NoneType"):
            layer(3, eps=None)
