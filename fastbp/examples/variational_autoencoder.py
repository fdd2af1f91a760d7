"""An arbitrary distribution by latent variables: the variational autoencoder, on the digits in black and white.

An image x comes from a code z ~ N(0, 1) by p(x | z), independent pixels given z. Its likelihood is an integral over all
codes; the encoder's q(z | x) = N(μ(x), σ(x)²) gives a bound of it that gradients can raise (D. P. Kingma and
M. Welling, Auto-encoding variational Bayes, 2014):

    log p(x) ≥ ELBO = E_q[log p(x | z)] - KL(q(z | x) ‖ N(0, 1))

python -m fastbp.examples.variational_autoencoder [--out FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import nn, optim
from fastbp.examples._binary_digits import PIXELS, load_binary_digits, nats_of_independent_pixels
from fastbp.examples._pictures import picture_file, save_picture, show_images

LATENT = 8
HIDDEN = 200
EPOCHS = 200
BATCH = 64
DRAWS = 100  # codes for each test image: the ELBO of the test set is then known to about 0.01 nats


class VariationalAutoencoder(nn.Module):
    """Encoder x → (μ, log σ²) and decoder z → logits of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.MLP(PIXELS, [HIDDEN], 2 * LATENT)
        self.decoder = nn.MLP(LATENT, [HIDDEN], PIXELS)

    def encode(self, x: fastbp.Tensor) -> tuple[fastbp.Tensor, fastbp.Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def elbo(self, x: fastbp.Tensor) -> fastbp.Tensor:
        """The bound of each image (rows,), in nats, with one code drawn for each."""
        mean, log_variance = self.encode(x)
        # z as a function of μ, σ and noise that depends on neither: so the gradient passes through the draw.
        z = mean + (0.5 * log_variance).exp() * fastbp.randn_like(mean)
        log_p = -nn.functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(dim=1)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1)
        return log_p - kl


class Run(NamedTuple):
    """A trained model and -ELBO of a test image, on average, in nats."""

    nats: float
    model: VariationalAutoencoder


def train(epochs: int = EPOCHS) -> Run:
    """Raises the ELBO by AdamW, whose steps grow smaller along a half cosine."""
    images, _ = load_binary_digits("train")
    fastbp.manual_seed(0)
    model = VariationalAutoencoder()
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @fastbp.compile
    def step(x):
        optimizer.zero_grad()
        loss = -model.elbo(x).mean()
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(epochs):
        step.run_epoch([images], BATCH, seed=epoch)
        schedule.step()
    return Run(-elbo(model), model)


def elbo(model: VariationalAutoencoder) -> float:
    """The ELBO of the test images, averaged over images and codes."""
    x = fastbp.from_numpy(load_binary_digits("test")[0])
    with fastbp.no_grad():
        return sum(model.elbo(x).mean().item() for _ in range(DRAWS)) / DRAWS


def draw(figure: Any, run: Run) -> None:
    """Test images and what their codes keep of them, images of random codes, and the codes of the classes."""
    images, labels = load_binary_digits("test")
    with fastbp.no_grad():
        means = run.model.encode(fastbp.from_numpy(images))[0]
        kept = run.model.decoder(means[:40]).sigmoid().numpy()
        drawn = run.model.decoder(fastbp.randn(80, LATENT)).sigmoid().numpy()
    reconstructions, samples, plane = figure.subplots(1, 3)
    pairs = np.stack([images[:40], kept], axis=1).reshape(80, PIXELS)
    show_images(reconstructions, pairs, 8, "Test images, each with its reconstruction")
    show_images(samples, drawn, 8, "Images of random codes")
    codes = means.numpy() - means.numpy().mean(axis=0)
    across = codes @ np.linalg.svd(codes, full_matrices=False)[2][:2].T
    for digit in range(10):
        plane.scatter(*across[labels == digit].T, marker=f"${digit}$", s=40, color=f"C{digit}")
    plane.set(title="Codes of the test images, principal plane", xticks=[], yticks=[], aspect="equal")


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("variational_autoencoder", arguments)
    run = train()
    save_picture(file, (15, 5.5), lambda figure: draw(figure, run))
    print(f"independent pixels: {nats_of_independent_pixels():.2f} nats per test image")
    print(f"-ELBO, an upper bound of -log p: {run.nats:.2f} nats per test image")


if __name__ == "__main__":
    main()
