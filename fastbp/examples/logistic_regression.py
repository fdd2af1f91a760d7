"""A binary output: Bernoulli distribution, sigmoid, binary cross-entropy. Is a tumour benign?

One layer on 30 measurements of cell nuclei (Wisconsin breast cancer data, with scikit-learn).

python -m fastbp.examples.logistic_regression [--out FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import data, nn, optim
from fastbp.examples._pictures import picture_file, save_picture
from fastbp.examples._tables import load_table

EPOCHS = 50
BATCH = 32
LEARNING_RATE = 0.1
WEIGHT_DECAY = 0.01  # keeps the weights finite should a plane separate the classes


class Run(NamedTuple):
    """A trained model on the test samples: their logits and labels (rows,), and the weight of each feature."""

    accuracy: float
    logits: np.ndarray
    labels: np.ndarray
    weights: dict[str, float]


def train(epochs: int = EPOCHS) -> Run:
    """Fits p(benign | x) = σ(w·x + b) by mini-batch gradient descent; a fifth of the samples are held out."""
    x, labels, names = load_table("breast_cancer")
    training, test = data.split_rows(labels)
    scaling = data.Scaling.standardised(x[training])
    inputs, targets = scaling(x[training]), labels[training, None].astype(np.float32)

    fastbp.manual_seed(0)
    model = nn.Linear(x.shape[1], 1)
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    @fastbp.compile
    def step(xs, ys):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(xs), ys)
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(epochs):
        step.run_epoch([inputs, targets], BATCH, seed=epoch)

    with fastbp.no_grad():
        logits = model(fastbp.from_numpy(scaling(x[test]))).numpy()[:, 0]
    # The sigmoid is above one half where its logit is above 0.
    accuracy = float(((logits > 0) == labels[test]).mean())
    return Run(accuracy, logits, labels[test], dict(zip(names, model.weight[0].tolist())))


def draw(figure: Any, run: Run) -> None:
    """The logits of both classes, and the ten features with the largest weights."""
    scores, features = figure.subplots(1, 2)
    bins = np.linspace(run.logits.min(), run.logits.max(), 31)
    for label, name, colour in ((0, "malignant", "tab:orange"), (1, "benign", "tab:blue")):
        scores.hist(run.logits[run.labels == label], bins, alpha=0.7, color=colour, label=name)
    scores.axvline(0, color="black", linestyle="--", label="decision")
    scores.set(title=f"Test accuracy {100 * run.accuracy:.2f} %", xlabel="logit of benign", ylabel="test samples")
    scores.legend()
    largest = sorted(run.weights, key=lambda name: abs(run.weights[name]))[-10:]
    features.barh(largest, [run.weights[name] for name in largest], color="tab:gray")
    features.set(title="Largest weights", xlabel="weight of the standardised feature")


def main(arguments: Sequence[str] | None = None) -> None:
    file = picture_file("logistic_regression", arguments)
    run = train()
    save_picture(file, (10, 4), lambda figure: draw(figure, run))
    print(f"test accuracy: {100 * run.accuracy:.2f} %")


if __name__ == "__main__":
    main()
