"""An arbitrary distribution pixel by pixel: the fully visible belief network, on the digits in black and white.

The chain rule of probability, p(x) = Π_i p(x_i | the pixels before x_i), turns the distribution into 64 binary outputs.
One network gives them all at once where masks on its weights let output i see only the pixels before it (M. Germain et
al., MADE: masked autoencoder for distribution estimation, 2015). Any ordering of the pixels will do: here networks of
several orderings are trained, and their probabilities averaged.

python -m fastbp.examples.autoregressive [--out FILE]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import nn, optim
from fastbp.examples._binary_digits import PIXELS, load_binary_digits, nats_of_independent_pixels
from fastbp.examples._pictures import picture_file, save_picture, show_images

ORDERINGS = 4
HIDDEN = 512
EPOCHS = 100
BATCH = 32


class Made(nn.Module):
    """Logits of the pixels, each from the pixels before it; order[i] in 0 .. 63 is the turn of pixel i."""

    def __init__(self, order: np.ndarray) -> None:
        super().__init__()
        # A hidden unit sees the pixels up to some turn, and the pixels of later turns see it.
        into, out_of = nn.MaskedLinear.autoregressive_masks(PIXELS, [HIDDEN], order=order.tolist())
        self.order = order
        self.layers = nn.Sequential(
            nn.MaskedLinear(PIXELS, HIDDEN, into),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.MaskedLinear(HIDDEN, PIXELS, out_of),
        )

    def forward(self, x: fastbp.Tensor) -> fastbp.Tensor:
        return self.layers(x)

    def log_likelihood(self, x: fastbp.Tensor) -> fastbp.Tensor:
        """log p(x) of each image (rows,), in nats: the cross-entropies of all pixels add up to it."""
        return -nn.functional.binary_cross_entropy_with_logits(self(x), x, reduction="none").sum(dim=1)

    def sample(self, rows: int) -> np.ndarray:
        """Images drawn pixel by pixel, (turns, rows, 64): after each turn what is known so far."""
        x = fastbp.zeros(rows, PIXELS)
        turns = []
        with fastbp.no_grad():
            for pixel in self.order.argsort().tolist():
                x[:, pixel] = fastbp.bernoulli(self(x)[:, pixel].sigmoid())
                turns.append(x.clone().numpy())
        return np.stack(turns)


class Run(NamedTuple):
    """Networks of several orderings and -log p of a test image, on average, in nats: of each, and of their average."""

    each: list[float]
    nats: float
    models: list[Made]


def fit(order: np.ndarray, epochs: int = EPOCHS) -> Made:
    """Raises the likelihood by AdamW, whose steps grow smaller along a half cosine."""
    images, _ = load_binary_digits("train")
    fastbp.manual_seed(0)
    model = Made(order)
    optimizer = optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @fastbp.compile
    def step(x):
        optimizer.zero_grad()
        loss = -model.log_likelihood(x).mean()
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(epochs):
        step.run_epoch([images], BATCH, seed=epoch)
        schedule.step()
    model.eval()
    return model


def train(epochs: int = EPOCHS) -> Run:
    """Fits one network that goes through the image row by row, and others that go through it in random orders."""
    generator = np.random.default_rng(0)
    orders = [np.arange(PIXELS), *(generator.permutation(PIXELS) for _ in range(ORDERINGS - 1))]
    models = [fit(order, epochs) for order in orders]
    test = fastbp.from_numpy(load_binary_digits("test")[0])
    with fastbp.no_grad():
        likelihoods = fastbp.stack([model.log_likelihood(test) for model in models])
        average = likelihoods.logsumexp(dim=0) - math.log(len(models))
    return Run((-likelihoods.mean(dim=1)).tolist(), -average.mean().item(), models)


def draw(figure: Any, run: Run) -> None:
    """Test images, samples, and how samples came about in two orderings."""
    fastbp.manual_seed(1)
    by_row, at_random = run.models[0].sample(80), run.models[1].sample(10)
    images, samples, rows, random = figure.subplots(1, 4)
    show_images(images, load_binary_digits("test")[0][:80], 8, "Test images")
    show_images(samples, by_row[-1], 8, "Samples")
    for axes, turns, name in ((rows, by_row, "row by row"), (random, at_random, "in random order")):
        show_images(axes, turns[7::8, :10].swapaxes(0, 1).reshape(80, PIXELS), 8, f"Sampling {name}, every 8th pixel")


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("autoregressive", arguments)
    run = train()
    save_picture(file, (18, 5.5), lambda figure: draw(figure, run))
    print(f"independent pixels: {nats_of_independent_pixels():.2f} nats per test image")
    print(f"one ordering each: {', '.join(f'{nats:.2f}' for nats in run.each)} nats per test image")
    print(f"-log p, average of {ORDERINGS} orderings: {run.nats:.2f} nats per test image")


if __name__ == "__main__":
    main()
