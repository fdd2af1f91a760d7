"""A continuous output with several answers: mixture of Gaussians, mixture density network, negative log-likelihood.

The inverse problem of C. M. Bishop, Mixture density networks, 1994: x = t + 0.3 sin(2πt) + noise, and t is asked for.
Some x have three t, so that a single Gaussian can only average over answers that are each right.

python -m fastbp.examples.mixture_density_network [--out FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import nn, optim
from fastbp.examples._pictures import picture_file, save_picture

COMPONENTS = 5
HIDDEN = 32
EPOCHS = 300
BATCH = 50
NOISE = 0.1


class Run(NamedTuple):
    """A trained model and the mean of log p(t | x) over samples that it has not seen, in nats."""

    log_likelihood: float
    model: nn.Module


def forward_process(t: np.ndarray) -> np.ndarray:
    return t + 0.3 * np.sin(2 * np.pi * t)


def load_samples(seed: int, rows: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """x and t (rows, 1) float32: t is uniform in [0, 1), the noise of x uniform in ±0.1."""
    generator = np.random.default_rng(seed)
    t = generator.random((rows, 1))
    x = forward_process(t) + generator.uniform(-NOISE, NOISE, (rows, 1))
    return x.astype(np.float32), t.astype(np.float32)


def likelihood_of_the_truth(x: np.ndarray) -> float:
    """The mean of log p(t | x) under the process that made the data, which no model surpasses but by chance.

    Given x all t are equally likely whose x without noise is at most 0.1 away.
    """
    t = (np.arange(10_000) + 0.5) / 10_000
    width = (np.abs(forward_process(t) - x) < NOISE).mean(axis=1)
    return float(-np.log(width).mean())


def train(components: int, epochs: int = EPOCHS) -> Run:
    """Fits p(t | x) = Σ_k π_k(x) N(t; μ_k(x), σ_k(x)²) by Adam, whose steps grow smaller along a half cosine."""
    fastbp.manual_seed(0)
    model = nn.Sequential(nn.MLP(1, [HIDDEN], HIDDEN, nn.Tanh), nn.Tanh(), nn.MixtureDensity(HIDDEN, 1, components))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @fastbp.compile
    def step(x, t):
        optimizer.zero_grad()
        logits, means, log_stds = model(x)
        loss = nn.functional.mixture_nll_loss(logits, means, log_stds, t)
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(epochs):
        step.run_epoch(load_samples(seed=0), BATCH, seed=epoch)
        schedule.step()
    x, t = map(fastbp.from_numpy, load_samples(seed=1))
    with fastbp.no_grad():
        return Run(model(x).log_prob(t).mean().item(), model)


def draw(figure: Any, runs: dict[str, Run]) -> None:
    """The density p(t | x) on a grid, under the held-out samples."""
    x, t = load_samples(seed=1)
    steps = np.linspace(-0.05, 1.05, 221, dtype=np.float32)
    grid_x, grid_t = (fastbp.from_numpy(part.reshape(-1, 1)) for part in np.meshgrid(steps, steps))
    for axes, (name, run) in zip(figure.subplots(1, 2, sharey=True), runs.items()):
        with fastbp.no_grad():
            values = run.model(grid_x).log_prob(grid_t).exp().numpy().reshape(len(steps), -1)
        # Colours go by the square root: where t has one answer the density is ten times as high as where it has three.
        shown = axes.pcolormesh(steps, steps, np.sqrt(values), cmap="Blues", vmin=0, vmax=4)
        axes.plot(x[:300], t[:300], ".", color="tab:orange", markersize=3)
        axes.set(title=f"{name}: {run.log_likelihood:.3f} nats per sample", xlabel="x")
    figure.axes[0].set_ylabel("t")
    bar = figure.colorbar(shown, ax=figure.axes, label="p(t | x)", ticks=range(5))
    bar.ax.set_yticklabels([str(root**2) for root in range(5)])


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("mixture_density_network", arguments)
    runs = {f"{COMPONENTS} Gaussians": train(COMPONENTS), "one Gaussian": train(1)}
    save_picture(file, (12, 5), lambda figure: draw(figure, runs))
    print(f"the process that made the data: {likelihood_of_the_truth(load_samples(seed=1)[0]):.4f} nats")
    likelihoods = ", ".join(f"{name} {run.log_likelihood:.4f}" for name, run in runs.items())
    print(f"held-out log-likelihood in nats per sample: {likelihoods}")


if __name__ == "__main__":
    main()
