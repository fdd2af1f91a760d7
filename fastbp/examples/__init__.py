"""Backpropagation by example: short programs, each run by ``python -m fastbp.examples.NAME``.

chain_rule, computational_graphs     derivatives by hand and by graph
neuron, two_layer_network            neurons, layers and a whole network with numbers to check on paper
linear_regression, regularisation    models of one line, and what a penalty does to them
optimizers                           what each optimizer does with a gradient
gradient_descent                     batches, optimizers and random starts compared on the embedded digits
mnist_from_scratch                   a classifier built from its own layer classes

Every system is a function that returns its numbers by name; the tests compare them with the ones worked out by hand.

What is to be predicted decides on a distribution, and that on the last layer and the loss. One program for each, which
trains by a compiled step, prints how well it does on data that it has not seen, and draws a picture (--out FILE):

logistic_regression                  binary: Bernoulli, sigmoid, binary cross-entropy
softmax_classifier                   discrete: multinoulli, softmax, cross-entropy
gaussian_regression                  continuous: Gaussian, linear, Gaussian cross-entropy
mixture_density_network              continuous with several answers: mixture of Gaussians, negative log-likelihood
variational_autoencoder              images, by latent variables: a bound of the likelihood
autoregressive                       images, pixel by pixel: the likelihood itself (fully visible belief network)
generative_adversarial_network       images, by a contest, without a likelihood
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastbp


def variable(values: Any) -> fastbp.Tensor:
    """A float64 tensor of the values that records gradients."""
    return fastbp.tensor(values, dtype=fastbp.float64, requires_grad=True)


def constant(values: Any) -> fastbp.Tensor:
    """A float64 tensor of the values that needs no gradient: data, targets."""
    return fastbp.tensor(values, dtype=fastbp.float64)


def report(*systems: Callable[[], dict[str, Any]]) -> None:
    """Prints the first line of each function's description, then the numbers that it returns."""
    for system in systems:
        print((system.__doc__ or system.__name__).splitlines()[0])
        for name, value in system().items():
            print(f"    {name} = {value}")
