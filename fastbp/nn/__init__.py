"""Neural-network modules, losses and starting values, under PyTorch's names."""

from typing import TYPE_CHECKING

from fastbp.nn import activation, functional, init, utils
from fastbp.nn.activation import *  # noqa: F403 - the derived classes: ReLU, GELU, Softmax, ...
from fastbp.nn.container import ModuleDict, ModuleList, Sequential
from fastbp.nn.dropout import Dropout
from fastbp.nn.flatten import Flatten
from fastbp.nn.linear import Identity, Linear
from fastbp.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    GaussianNLLLoss,
    HingeEmbeddingLoss,
    HingeLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MixtureNLLLoss,
    MSELoss,
    NLLLoss,
    PoissonNLLLoss,
    QuantileLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
)
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "Linear",
    "MSELoss",
    "MixtureNLLLoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "PoissonNLLLoss",
    "QuantileLoss",
    "Sequential",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "functional",
    "init",
    "utils",
    *activation.__all__,
]

if TYPE_CHECKING:  # the derived classes, for type checkers

    def __getattr__(name: str) -> type[activation.Activation]: ...
