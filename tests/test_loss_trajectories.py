"""50 steps of training by every loss are those of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from op_cases import losses

import fastbp

torch = pytest.importorskip("torch")

STEPS, ROWS, INPUTS, HIDDEN = 50, 16, 6, 9
rng = np.random.default_rng(21)
X, OTHER = rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(ROWS, INPUTS))
REAL = rng.normal(size=(ROWS, 4))
SHARE = rng.uniform(0.05, 0.95, size=(ROWS, 4))
TRUTH = (rng.uniform(size=(ROWS, 4)) > 0.7) * 1.0
SIGNS = rng.choice([-1.0, 1.0], size=(ROWS, 4))
COUNTS = rng.poisson(2.0, size=(ROWS, 4)) * 1.0
CLASSES = rng.integers(0, 4, ROWS)


def as_they_are(f, y, t, apply):
    return y, t


class Training(NamedTuple):
    """What a network with so many outputs is trained by: a class of `nn` with options, called with arguments that are
    made of the outputs and the target, and what gives its values without reduction in PyTorch, where that lacks it."""

    kind: str
    outputs: int
    target: np.ndarray
    options: tuple[Any, ...] = ()
    arguments: Callable[..., tuple[Any, ...]] = as_they_are
    in_torch: Callable[..., Any] | None = None

    def loss(self, library: Any, *arguments: Any) -> Any:
        if self.in_torch is not None and library is torch:
            return self.in_torch(library, *arguments).mean()
        return getattr(library.nn, self.kind)(*self.options)(*arguments)


def after(name):
    """The outputs go through a function first."""
    return lambda f, y, t, apply: (getattr(f.nn.functional, name)(y), t)


def log_probabilities(f, y, t, apply):
    return f.log_softmax(y, 1), t


def mean_and_variance(f, y, t, apply):
    return y[:, :4], t, f.nn.functional.softplus(y[:, 4:])


def three_components(f, y, t, apply):
    return y[:, :3], y[:, 3:9].reshape(-1, 3, 2), y[:, 9:].reshape(-1, 3, 2), t


def pairs(f, y, t, apply):
    return y, apply(OTHER), t


DISTRIBUTION = SHARE / SHARE.sum(1, keepdims=True)
TRAININGS = [
    Training("MSELoss", 4, REAL),
    Training("L1Loss", 4, REAL),
    Training("HuberLoss", 4, REAL, ("mean", 0.5)),
    Training("SmoothL1Loss", 4, REAL),
    Training("QuantileLoss", 3, REAL[:, 0], (losses.QUANTILES,), in_torch=losses.quantile),
    Training("BCELoss", 4, SHARE, arguments=after("sigmoid")),
    Training("BCEWithLogitsLoss", 4, SHARE),
    Training("SigmoidFocalLoss", 4, TRUTH, in_torch=losses.focal(0.25, 2.0)),
    Training("HingeLoss", 4, SIGNS, in_torch=lambda f, y, t: f.relu(1 - t * y)),
    Training("HingeEmbeddingLoss", 4, SIGNS, arguments=after("softplus")),
    Training("CrossEntropyLoss", 4, CLASSES),
    Training("NLLLoss", 4, CLASSES, arguments=log_probabilities),
    Training("PoissonNLLLoss", 4, COUNTS, (True, True)),
    Training("GaussianNLLLoss", 8, REAL, arguments=mean_and_variance),
    Training("MixtureNLLLoss", 15, REAL[:, :2], arguments=three_components, in_torch=losses.mixture),
    Training("KLDivLoss", 4, DISTRIBUTION, arguments=log_probabilities, in_torch=losses.relative_entropy(False)),
    Training("CosineEmbeddingLoss", 4, SIGNS[:, 0], (0.1,), pairs),
]
OPTIMIZERS = {"sgd": ("SGD", {"lr": 0.01, "momentum": 0.9}), "adam": ("Adam", {"lr": 0.01})}


def trajectory(
    library: Any, training: Training, optimizer: str, dtype: str
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The losses of all steps, and the weights after the last."""
    kind = getattr(library, dtype)

    def tensor(array: Any) -> Any:
        array = np.asarray(array)
        return library.tensor(array) if array.dtype == np.int64 else library.tensor(array, dtype=kind)

    nn = library.nn
    model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, training.outputs)).to(dtype=kind)
    start = np.random.default_rng(3)
    model.load_state_dict({key: tensor(start.uniform(-0.5, 0.5, p.shape)) for key, p in model.state_dict().items()})
    rule, options = OPTIMIZERS[optimizer]
    steps = getattr(library.optim, rule)(model.parameters(), **options)
    seen = []
    for _ in range(STEPS):
        steps.zero_grad()
        outputs, target = model(tensor(X)), tensor(training.target)
        loss = training.loss(library, *training.arguments(library, outputs, target, lambda x: model(tensor(x))))
        loss.backward()
        steps.step()
        seen.append(loss.item())
    return seen, {key: p.detach().numpy().copy() for key, p in model.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.kind)
def test_training_is_that_of_pytorch(training, optimizer, dtype):
    ours, our_weights = trajectory(fastbp, training, optimizer, dtype)
    theirs, their_weights = trajectory(torch, training, optimizer, dtype)
    assert theirs[-1] < theirs[0]
    tolerance = 1e-10 if dtype == "float64" else 1e-5  # of the largest: what 50 steps make of rounding errors
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
    for key, value in their_weights.items():
        np.testing.assert_allclose(our_weights[key], value, rtol=0, atol=tolerance * np.abs(value).max(), err_msg=key)


def test_every_loss_is_trained_with():
    assert sorted(training.kind for training in TRAININGS) == sorted(fastbp.nn.loss.__all__)
