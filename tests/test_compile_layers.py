"""Layers in compiled steps, in training and evaluation: what they leave is equal to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_runs import assert_same_run, batch, with_sgd
from epoch_runs import arrays, assert_equal_epochs, shuffled, training
from settings import numbers_of_threads

import fastbp
from fastbp import nn
from fastbp.nn import functional as F

threads = numbers_of_threads(1, 2, 3, 8)
INPUTS, OUTPUTS = 5, 3  # those of `batch`


def body(*middle: nn.Module, width: int = 24) -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, width), *middle, nn.Linear(width, OUTPUTS))


def autoregressive() -> nn.Module:
    masks = nn.MaskedLinear.autoregressive_masks(INPUTS, (24, 24))
    widths = (INPUTS, 24, 24, INPUTS)
    layers = [nn.MaskedLinear(a, b, mask) for a, b, mask in zip(widths, widths[1:], masks)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.Linear(INPUTS, OUTPUTS))


def siren() -> nn.Module:
    model = nn.MLP(INPUTS, (24, 24), OUTPUTS, activation=nn.Sine)
    for i, layer in enumerate(module for module in model if isinstance(module, nn.Linear)):
        nn.init.siren_uniform_(layer.weight, first=i == 0)
    return model


class Channels(nn.Module):
    """Batch norm of (N, C, L), from rows of C·L."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(INPUTS, 24), nn.BatchNorm1d(6), nn.Linear(24, OUTPUTS)

    def forward(self, x):
        return self.last(self.norm(self.first(x).reshape(-1, 6, 4)).reshape(-1, 24))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: body(nn.LayerNorm(24), nn.Tanh()),
    "layer norm without bias": lambda: body(nn.LayerNorm(24, bias=False)),
    "layer norm without weights": lambda: body(nn.LayerNorm(24, elementwise_affine=False)),
    "layer norm of the input": lambda: nn.Sequential(nn.LayerNorm(INPUTS), body(nn.ReLU())),
    "rms norm": lambda: body(nn.RMSNorm(24), nn.Tanh()),
    "rms norm without weights": lambda: body(nn.RMSNorm(24, elementwise_affine=False)),
    "batch norm": lambda: body(nn.BatchNorm1d(24), nn.ReLU()),
    "batch norm of as many columns as rows": lambda: body(nn.BatchNorm1d(37), nn.ReLU(), width=37),
    "batch norm without weights": lambda: body(nn.BatchNorm1d(24, affine=False), nn.ReLU()),
    "batch norm, means over all": lambda: body(nn.BatchNorm1d(24, momentum=None)),
    "batch norm without statistics": lambda: body(nn.BatchNorm1d(24, track_running_stats=False)),
    "batch norm of the input": lambda: nn.Sequential(nn.BatchNorm1d(INPUTS), body(nn.ReLU())),
    "batch norm of the output": lambda: nn.Sequential(body(nn.ReLU()), nn.BatchNorm1d(OUTPUTS)),
    "batch norm of channels": Channels,
    "mlp": lambda: nn.MLP(INPUTS, (24, 16), OUTPUTS, dropout=0.3, norm=nn.BatchNorm1d),
    "residual": lambda: body(nn.Residual(nn.MLP(24, (16,), 24, norm=nn.LayerNorm)), nn.Residual(nn.Tanh())),
    "residual with batch norm": lambda: body(nn.Residual(nn.Sequential(nn.Linear(24, 24), nn.BatchNorm1d(24)))),
    "concatenate": lambda: nn.Sequential(nn.Concatenate(nn.Linear(INPUTS, 9), nn.Identity()), nn.Linear(14, OUTPUTS)),
    "sine": siren,
    "fourier": lambda: nn.Sequential(nn.FourierFeatures(INPUTS, 12), nn.Linear(24, OUTPUTS)),
    "masked": autoregressive,
}


def evaluated_in_between(t: int, model: nn.Module, *others: Any) -> None:
    model.train(t % 3 != 1)


@pytest.mark.parametrize("rows", [37, 2000])
@pytest.mark.parametrize("name", MODELS)
def test_training_and_evaluation(name, rows, threads):
    calls = [batch(t, rows) for t in range(4)]
    variants = 2 if "batch" in name or name == "mlp" else 1  # those that behave alike in both modes need one
    assert_same_run(with_sgd(MODELS[name], lr=0.01), calls, evaluated_in_between, variants)


@pytest.mark.parametrize("name", ["layer norm", "rms norm", "batch norm", "batch norm, means over all", "sine"])
def test_float64(name, threads):
    calls = [batch(t, 600, dtype="float64") for t in range(3)]
    assert_same_run(with_sgd(lambda: MODELS[name]().double(), lr=0.01), calls, between=evaluated_in_between)


@pytest.mark.parametrize("name", ["layer norm", "batch norm", "batch norm, means over all"])
def test_forward_alone(name, threads):
    def setup():
        model = MODELS[name]()
        return (lambda x, y: (model(x), F.mse_loss(model(x), y))), model

    assert_same_run(setup, [batch(t, rows) for t, rows in enumerate((37, 37, 600))], between=evaluated_in_between)


@pytest.mark.parametrize("name", ["layer norm", "batch norm", "batch norm, means over all", "mlp"])
def test_epochs(name, threads):
    assert_equal_epochs(training("nesterov", MODELS[name]), arrays(), 8, permutation=shuffled())


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("rows", [37, 2000])
def test_embedding(rows, padding, threads):
    def make():
        return nn.Sequential(nn.Embedding(50, 8, padding_idx=padding), nn.Flatten(), nn.Linear(24, OUTPUTS))

    def words(t):
        return fastbp.tensor(np.random.default_rng(t).integers(0, 50, (rows, 3))), batch(t, rows)[1]

    assert_same_run(with_sgd(make), [words(t) for t in range(3)], variants=1)


@pytest.mark.parametrize("rows", [37, 2000])
def test_mixture(rows, threads):
    def setup():
        model = nn.MixtureDensity(INPUTS, OUTPUTS, 4)
        inner = with_sgd(lambda: model, lambda mixture, y: -mixture.log_prob(y).mean(), lr=0.01)
        step, *state = inner()
        return (lambda x, y: (step(x, y), *model(x), model(x).mean(), model(x).sample())), *state

    assert_same_run(setup, [batch(t, rows) for t in range(3)], variants=1)


def test_a_mixture_is_a_result():
    model = nn.MixtureDensity(INPUTS, OUTPUTS, 4)
    result = fastbp.compile(lambda x: model(x))(batch()[0])
    assert type(result) is nn.Mixture and result.means.tolist() == model(batch()[0]).means.tolist()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_refused_step_leaves_running_statistics_and_their_count(momentum, threads):
    model = body(nn.BatchNorm1d(24, momentum=momentum), nn.ReLU())
    step, *_ = with_sgd(lambda: model)()
    compiled = fastbp.compile(step, require_finite=True)
    compiled(*batch(0, 40))
    before = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    x, y = batch(1, 40)
    y[3, 0] = np.nan
    with pytest.raises(FloatingPointError, match="finite first result, got nan"):
        compiled(x, y)
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == before
    assert model[1].num_batches_tracked.item() == 1
    compiled(*batch(2, 40))
    assert model[1].num_batches_tracked.item() == 2


def test_options_that_change_are_another_recording():
    def change(t: int, model: nn.Module, optimizer: Any) -> None:
        if t == 2:
            model[1].momentum = 0.5
        if t == 4:
            model[1].eps = 0.1
        if t == 5:
            model[1].track_running_stats = False

    assert_same_run(with_sgd(MODELS["batch norm"]), [batch(t, 37) for t in range(7)], between=change, variants=4)


def test_an_explanation_names_what_is_cut_by_columns_and_the_running_statistics():
    model = body(nn.BatchNorm1d(24), nn.ReLU())
    step, *_ = with_sgd(lambda: model)()
    text = " ".join(fastbp.compile(step).explain(*batch(0, 40)).split())
    after = text[text.index("After fusing, in the order") :]
    forward = after[after.index("columns 24 batch_norm_forward") :]
    assert "↔ running_mean(24)@1.running_mean running_var(24)@1.running_var → y(40, 24)@" in forward
    assert "columns 24 batch_norm_backward" in after and "b=1 → y()@" in after
    assert "1.num_batches_tracked" in after
    assert model[1].num_batches_tracked.item() == 0  # nothing ran


def test_programs_agree_with_the_reference_backend():
    model = body(nn.BatchNorm1d(24), nn.LayerNorm(24), nn.RMSNorm(24), nn.Sine(1.5))
    step, *_ = with_sgd(lambda: model)()
    compiled = fastbp.compile(step)
    with fastbp.check():
        for t in range(3):
            compiled(*batch(t, 40))
    assert model[1].num_batches_tracked.item() == 3
