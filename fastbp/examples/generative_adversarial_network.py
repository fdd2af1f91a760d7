"""An arbitrary distribution by a contest: the generative adversarial network, on the embedded digits.

The generator makes images of noise; the discriminator tells them from real ones; each learns from the other
(I. J. Goodfellow et al., Generative adversarial nets, 2014). There is no likelihood, so a classifier that learned real
digits is the judge: which classes it finds among the images, and how far they are from the test digits in its features.

python -m fastbp.examples.generative_adversarial_network [--out FILE]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import data, nn, optim
from fastbp.examples._judge import Judge
from fastbp.examples._pictures import picture_file, save_picture, show_images

NOISE = 16
HIDDEN = 128
EPOCHS = 400
BATCH = 64
AVERAGE = 0.999  # the images come of a running average of the generator, which wavers less than the generator itself
SAMPLES = 10_000  # enough to know the distance to about 0.1


class Run(NamedTuple):
    """A trained generator with the losses of each epoch (epochs, 2): discriminator, generator."""

    generator: nn.Module
    losses: np.ndarray


def train(epochs: int = EPOCHS) -> Run:
    """One step of the discriminator and one of the generator on each batch of real digits."""
    real_images, _ = data.load_digits("train")
    fastbp.manual_seed(0)
    generator = nn.Sequential(nn.MLP(NOISE, [HIDDEN, HIDDEN], 64), nn.Sigmoid())
    # Dropout and noise on what it sees keep the discriminator from knowing the 1,437 real images by heart.
    discriminator = nn.MLP(64, [HIDDEN, HIDDEN], 1, lambda: nn.LeakyReLU(0.2), dropout=0.3)
    average = copy.deepcopy(generator).requires_grad_(False)
    generator_optimizer = optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    discriminator_optimizer = optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))

    def loss(images, label):
        """How far the discriminator is from calling all images real (1) or made (0)."""
        logits = discriminator(images + 0.1 * fastbp.randn_like(images))
        return nn.functional.binary_cross_entropy_with_logits(logits, fastbp.full_like(logits, label))

    @fastbp.compile
    def step(real):
        made = generator(fastbp.randn(len(real), NOISE))

        discriminator_optimizer.zero_grad()
        discriminator_loss = loss(real, 0.9) + loss(made.detach(), 0.0)  # 0.9: never quite sure of a real one
        discriminator_loss.backward()
        discriminator_optimizer.step()

        generator_optimizer.zero_grad()
        generator_loss = loss(made, 1.0)
        generator_loss.backward()
        generator_optimizer.step()

        with fastbp.no_grad():
            for kept, new in zip(average.parameters(), generator.parameters()):
                kept.mul_(AVERAGE).add_((1 - AVERAGE) * new)
        return discriminator_loss, generator_loss

    losses = []
    for epoch in range(epochs):
        of_steps = step.run_epoch([real_images], BATCH, seed=epoch, drop_last=True)
        losses.append([values.mean().item() for values in of_steps])
    return Run(average, np.array(losses))


def sample(generator: nn.Module, rows: int = SAMPLES) -> np.ndarray:
    """Images (rows, 64) in [0, 1]; the same noise each time."""
    with fastbp.no_grad():
        return generator(fastbp.randn(rows, NOISE, generator=fastbp.Generator(1))).numpy()


def draw(figure: Any, run: Run, images: np.ndarray) -> None:
    """Images of the generator, the real ones nearest to them, and the losses."""
    real, _ = data.load_digits("train")
    nearest = ((images[:80, None] - real) ** 2).sum(axis=2).argmin(axis=1)
    made, neighbours, curves = figure.subplots(1, 3)
    show_images(made, images[:80], 8, "Images of the generator")
    show_images(neighbours, real[nearest], 8, "The training digit nearest to each")
    curves.plot(run.losses, label=["discriminator", "generator"])
    curves.set(title="Losses", xlabel="epoch", ylabel="binary cross-entropy")
    curves.legend()


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("generative_adversarial_network", arguments)
    run, judge = train(), Judge()
    images = sample(run.generator)
    save_picture(file, (15, 5.5), lambda figure: draw(figure, run, images))
    real, noise = data.load_digits("train")[0], np.random.default_rng(0).random(images.shape, np.float32)
    print(f"Fréchet distance of the training digits {judge.distance(real):.2f}, of noise {judge.distance(noise):.2f}")
    classes = np.bincount(judge.confident_labels(images), minlength=10)
    print(f"of {len(images)} images it is sure that {', '.join(f'{n} are {k}' for k, n in enumerate(classes))}")
    print(f"classes: {np.count_nonzero(classes)} of 10, Fréchet distance: {judge.distance(images):.2f}")


if __name__ == "__main__":
    main()
