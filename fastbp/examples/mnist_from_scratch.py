"""A digit classifier from scratch: each layer is a class with its own forward and backward, and no autograd.

Affine → ReLU (or Sigmoid) → Affine → Softmax with cross-entropy, trained by mini-batch gradient descent.

python -m fastbp.examples.mnist_from_scratch [FOLDER OF THE MNIST FILES]
"""

from __future__ import annotations

import sys

import fastbp
from fastbp import data

# Hyper-parameters.
HIDDEN = 100
EPOCHS = 5
BATCH = 100
LEARNING_RATE = 0.5


class Relu:
    """y = max(x, 0); the gradient passes where the input was positive."""

    def forward(self, x: fastbp.Tensor) -> fastbp.Tensor:
        self.positive = x > 0
        return fastbp.where(self.positive, x, 0.0)

    def backward(self, dy: fastbp.Tensor) -> fastbp.Tensor:
        return fastbp.where(self.positive, dy, 0.0)


class Sigmoid:
    """y = 1 / (1 + e⁻ˣ); dy/dx = y(1 - y)."""

    def forward(self, x: fastbp.Tensor) -> fastbp.Tensor:
        self.y = 1 / (1 + fastbp.exp(-x))
        return self.y

    def backward(self, dy: fastbp.Tensor) -> fastbp.Tensor:
        return dy * self.y * (1 - self.y)


class Affine:
    """y = xW + b; dx = dy·Wᵀ, dW = xᵀ·dy, db = column sums of dy."""

    def __init__(self, inputs: int, outputs: int) -> None:
        # The variance 2 / inputs keeps the size of the signal from layer to layer through ReLU.
        self.w = (2 / inputs) ** 0.5 * fastbp.randn(inputs, outputs)
        self.b = fastbp.zeros(outputs)

    def forward(self, x: fastbp.Tensor) -> fastbp.Tensor:
        self.x = x
        return x @ self.w + self.b

    def backward(self, dy: fastbp.Tensor) -> fastbp.Tensor:
        self.dw = self.x.T @ dy
        self.db = dy.sum(dim=0)
        return dy @ self.w.T


class SoftmaxWithLoss:
    """Softmax and the mean of -log p(label): together their gradient is simply (p - one-hot label) / batch."""

    def forward(self, logits: fastbp.Tensor, one_hot: fastbp.Tensor) -> float:
        # Subtracting each row's maximum changes nothing but keeps exp from overflowing.
        exponentials = fastbp.exp(logits - logits.max(dim=1, keepdim=True).values)
        self.p = exponentials / exponentials.sum(dim=1, keepdim=True)
        self.one_hot = one_hot
        return -((self.p + 1e-12).log() * one_hot).sum().item() / len(logits)

    def backward(self) -> fastbp.Tensor:
        return (self.p - self.one_hot) / len(self.p)


class Network:
    """Layers in a row; the gradient goes back through them in the opposite order."""

    def __init__(self, layers: list) -> None:
        self.layers = layers
        self.loss = SoftmaxWithLoss()

    def predict(self, x: fastbp.Tensor) -> fastbp.Tensor:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def step(self, x: fastbp.Tensor, one_hot: fastbp.Tensor, lr: float) -> float:
        """Forward, backward, one step down the gradient; returns the loss before it."""
        loss = self.loss.forward(self.predict(x), one_hot)
        dy = self.loss.backward()
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        for layer in self.layers:
            if isinstance(layer, Affine):
                layer.w -= lr * layer.dw
                layer.b -= lr * layer.db
        return loss


def load(folder: str | None = None):
    """MNIST as (train images, labels), (test images, labels) with pixels scaled to [0, 1]; else the embedded digits."""
    try:
        return data.load_mnist("train", folder), data.load_mnist("test", folder)
    except OSError as error:
        print(f"note: MNIST was not found, training on the embedded digits instead ({error})")
        return data.load_digits("train"), data.load_digits("test")


def accuracy(network: Network, x: fastbp.Tensor, labels: fastbp.Tensor) -> float:
    return (network.predict(x).argmax(dim=1) == labels).float().mean().item()


def train(training, test, activation: type = Relu, epochs: int = EPOCHS, seed: int = 0) -> tuple[list[float], float]:
    """Trains inputs → HIDDEN → 10; returns the mean loss of each epoch and the test accuracy."""
    x, labels = training
    fastbp.manual_seed(seed)
    network = Network([Affine(x.shape[1], HIDDEN), activation(), Affine(HIDDEN, 10)])
    rows_of_identity = fastbp.eye(10)
    batches = data.Batches(x, labels, batch_size=BATCH, shuffle=True, seed=seed)
    losses = []
    for epoch in range(1, epochs + 1):
        total = sum(network.step(images, rows_of_identity[names], LEARNING_RATE) for images, names in batches)
        losses.append(total / len(batches))
        print(f"epoch {epoch}   loss {losses[-1]:.4f}")
    return losses, accuracy(network, *(fastbp.from_numpy(part) for part in test))


def main() -> None:
    training, test = load(sys.argv[1] if len(sys.argv) > 1 else None)
    for activation in (Relu, Sigmoid):
        print(f"{training[0].shape[1]} → {HIDDEN} → 10 with {activation.__name__}")
        print(f"test accuracy {100 * train(training, test, activation)[1]:.2f} %")


if __name__ == "__main__":
    main()
