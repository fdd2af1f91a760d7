"""A continuous output: Gaussian distribution, linear layer, Gaussian cross-entropy. How far does a disease progress?

The network gives mean and variance for each patient (diabetes data, with scikit-learn). Beside it the same network with
one variance for all: then the mean is what least squares would give, and nobody is told how sure it is.

python -m fastbp.examples.gaussian_regression [--out FILE]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import data, nn, optim
from fastbp.examples._pictures import picture_file, save_picture
from fastbp.examples._tables import load_table

HIDDEN = 32
EPOCHS = 60
BATCH = 32
FOLDS = 5


class Run(NamedTuple):
    """What the networks said about the patients that they had not seen: mean, standard deviation and the truth (rows,).

    log_likelihood is the mean of log N(y; mean, deviation²), in nats per patient.
    """

    log_likelihood: float
    mean: np.ndarray
    deviation: np.ndarray
    y: np.ndarray


class Gaussian(nn.Module):
    """Mean and variance of y given x, its variance one parameter for all x unless it is `varying`."""

    def __init__(self, features: int, varying: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, HIDDEN), nn.Tanh())
        self.mean = nn.Linear(HIDDEN, 1)
        self.varying = varying
        self.log_variance: Any = nn.Linear(HIDDEN, 1) if varying else nn.Parameter(fastbp.zeros(1))

    def forward(self, x: fastbp.Tensor) -> tuple[fastbp.Tensor, fastbp.Tensor]:
        h = self.body(x)
        log_variance = self.log_variance(h) if self.varying else self.log_variance.expand(len(x), 1)
        return self.mean(h), log_variance.exp()


def fit(x: np.ndarray, y: np.ndarray, varying: bool, epochs: int = EPOCHS) -> Gaussian:
    """Minimises the Gaussian negative log-likelihood of standardised x (rows, features) and y (rows, 1)."""
    fastbp.manual_seed(0)
    model = Gaussian(x.shape[1], varying)
    # Decay is for the weights of layers: it would draw a variance that is one parameter to 1.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 1.0},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = optim.AdamW(groups, lr=3e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @fastbp.compile
    def step(xs, ys):
        optimizer.zero_grad()
        mean, variance = model(xs)
        loss = nn.functional.gaussian_nll_loss(mean, ys, variance)
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(epochs):
        step.run_epoch([x, y], BATCH, seed=epoch)
        schedule.step()
    return model


def train(varying: bool, epochs: int = EPOCHS) -> Run:
    """Cross-validation: each fifth of the patients is predicted by a network that was fitted to the other four."""
    x, y, _ = load_table("diabetes")
    y = y[:, None]
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    mean, variance = np.empty_like(y), np.empty_like(y)
    for held_out in range(FOLDS):
        training, test = fold != held_out, fold == held_out
        scale_x, scale_y = (data.Scaling.standardised(values[training]) for values in (x, y))
        model = fit(scale_x(x[training]), scale_y(y[training]), varying, epochs)
        with fastbp.no_grad():
            means, variances = model(fastbp.from_numpy(scale_x(x[test])))
        mean[test], variance[test] = scale_y.inverse(means.numpy()), scale_y.scale**2 * variances.numpy()
    log_likelihood = -0.5 * (np.log(2 * math.pi * variance) + (y - mean) ** 2 / variance).mean()
    return Run(float(log_likelihood), mean[:, 0], np.sqrt(variance[:, 0]), y[:, 0])


def draw(figure: Any, runs: dict[str, Run]) -> None:
    """The patients in the order of their predicted means, with the band that should hold 95 % of them."""
    for axes, (name, run) in zip(figure.subplots(1, 2, sharey=True), runs.items()):
        order = np.argsort(run.mean, kind="stable")
        mean, deviation, y = run.mean[order], run.deviation[order], run.y[order]
        inside = np.abs(y - mean) < 2 * deviation
        axes.fill_between(range(len(y)), mean - 2 * deviation, mean + 2 * deviation, color="tab:blue", alpha=0.25)
        axes.plot(mean, color="tab:blue", label="mean ± 2σ")
        axes.plot(y, ".", color="black", markersize=4, label=f"measured, {100 * inside.mean():.0f} % in the band")
        axes.set(title=f"{name}: {run.log_likelihood:.3f} nats per patient", xlabel="patients, held out")
        axes.legend(loc="upper left")
    figure.axes[0].set_ylabel("disease progression after a year")


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("gaussian_regression", arguments)
    runs = {"variance predicted": train(varying=True), "one variance": train(varying=False)}
    save_picture(file, (12, 5), lambda figure: draw(figure, runs))
    likelihoods = ", ".join(f"{name} {run.log_likelihood:.4f}" for name, run in runs.items())
    print(f"held-out log-likelihood in nats per patient: {likelihoods}")


if __name__ == "__main__":
    main()
