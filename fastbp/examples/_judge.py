"""A judge of made digits: a classifier that learned the real ones."""

from __future__ import annotations

import numpy as np

import fastbp
from fastbp import data, nn, optim


class Judge:
    """Tells which digits are among images (rows, 64), and how far the images are, all in all, from the test digits.

    Its features of an image are the 32 units of its last hidden layer.
    """

    def __init__(self, epochs: int = 40) -> None:
        x, labels = data.load_digits("train")
        fastbp.manual_seed(1)
        self.features = nn.Sequential(nn.MLP(64, [64], 32), nn.ReLU())
        self.head = nn.Linear(32, 10)
        optimizer = optim.Adam([*self.features.parameters(), *self.head.parameters()], lr=3e-3)

        @fastbp.compile
        def step(xs, ys):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.head(self.features(xs)), ys)
            loss.backward()
            optimizer.step()
            return loss

        for epoch in range(epochs):
            step.run_epoch([x, labels], 64, seed=epoch)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """p(digit | image), (rows, 10)."""
        with fastbp.no_grad():
            return nn.functional.softmax(self.head(self.features(fastbp.from_numpy(images))), dim=1).numpy()

    def confident_labels(self, images: np.ndarray) -> np.ndarray:
        """The digits in the images to which it gives a probability above 0.9."""
        p = self.probabilities(images)
        return p.argmax(axis=1)[p.max(axis=1) > 0.9]

    def distance(self, images: np.ndarray) -> float:
        """The Fréchet distance of its features of the images from those of the test digits."""
        with fastbp.no_grad():
            a, b = (self.features(fastbp.from_numpy(x)).numpy() for x in (images, data.load_digits("test")[0]))
        return frechet_distance(a.astype(np.float64), b.astype(np.float64))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|μ_a - μ_b|² + tr(C_a + C_b - 2 (C_a C_b)^½) for a, b (rows, features), both taken as Gaussian.

    tr (C_a C_b)^½ is the sum of the square roots of the eigenvalues of C_a^½ C_b C_a^½, which is symmetric. Source:
    M. Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017.
    """
    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    eigenvalues, axes = np.linalg.eigh(covariance_a)
    root = axes * np.sqrt(eigenvalues.clip(0)) @ axes.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ covariance_b @ root).clip(0)).sum()
    squared_shift = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(squared_shift + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared)
