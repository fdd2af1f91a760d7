"""A discrete output: multinoulli distribution, softmax, cross-entropy. Which digit is it?

One hidden layer on MNIST where its files are (README says where they are looked for), else on the embedded digits.

python -m fastbp.examples.softmax_classifier [--out FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import nn, optim
from fastbp.examples._pictures import picture_file, save_picture, show_images
from fastbp.examples.mnist_from_scratch import load

HIDDEN = 256
STEPS = 5000
BATCH = 64

Samples = tuple[np.ndarray, np.ndarray]


class Run(NamedTuple):
    """A trained model on the test samples: the probabilities (rows, 10) that it gives them."""

    accuracy: float
    probabilities: np.ndarray


def train(training: Samples, test: Samples, steps: int = STEPS) -> Run:
    """Fits p(digit | x) = softmax(network(x)) by Adam, whose steps grow smaller along a half cosine."""
    x, labels = training
    epochs = max(steps * BATCH // len(x), 1)
    fastbp.manual_seed(0)
    model = nn.MLP(x.shape[1], [HIDDEN], 10, dropout=0.2)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @fastbp.compile
    def step(xs, ys):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xs), ys)
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(epochs):
        losses = step.run_epoch([x, labels], BATCH, seed=epoch)
        schedule.step()
    print(f"{epochs} epochs, training loss {losses.mean().item():.4f}")

    model.eval()
    with fastbp.no_grad():
        probabilities = nn.functional.softmax(model(fastbp.from_numpy(test[0])), dim=1).numpy()
    return Run(float((probabilities.argmax(axis=1) == test[1]).mean()), probabilities)


def draw(figure: Any, run: Run, test: Samples) -> None:
    """The test images whose digit got the lowest probability, over the probabilities of all digits."""
    images, labels = test
    hardest = np.argsort(run.probabilities[np.arange(len(labels)), labels], kind="stable")[:8]
    for row, above, below in zip(hardest, *figure.subplots(2, len(hardest), sharey="row")):
        show_images(above, images[row : row + 1], 1, f"{labels[row]} taken for {run.probabilities[row].argmax()}")
        colours = ["tab:blue" if digit == labels[row] else "tab:gray" for digit in range(10)]
        below.bar(range(10), run.probabilities[row], color=colours)
        below.set(xticks=range(10), ylim=(0, 1))
    figure.axes[len(hardest)].set_ylabel("probability")
    figure.suptitle(f"The hardest of {len(labels)} test images; {100 * run.accuracy:.2f} % are recognised")


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("softmax_classifier", arguments)
    training, test = load()
    run = train(training, test)
    save_picture(file, (14, 4), lambda figure: draw(figure, run, test))
    print(f"test accuracy: {100 * run.accuracy:.2f} %")


if __name__ == "__main__":
    main()
