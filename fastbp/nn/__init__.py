"""Neural-network modules, losses and starting values, under PyTorch's names."""

from typing import TYPE_CHECKING

from fastbp.nn import activation, functional, init, utils
from fastbp.nn.activation import *  # noqa: F403 - the derived classes: ReLU, GELU, Softmax, ...
from fastbp.nn.blocks import MLP, Concatenate, Residual
from fastbp.nn.container import ModuleDict, ModuleList, Sequential
from fastbp.nn.dropout import Dropout
from fastbp.nn.embedding import Embedding
from fastbp.nn.flatten import Flatten
from fastbp.nn.fourier import FourierFeatures
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
from fastbp.nn.masked import MaskedLinear
from fastbp.nn.mixture import Mixture, MixtureDensity
from fastbp.nn.module import Module
from fastbp.nn.norm import BatchNorm1d, LayerNorm, RMSNorm
from fastbp.nn.parameter import Parameter

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Concatenate",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "FourierFeatures",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "Linear",
    "MLP",
    "MSELoss",
    "MaskedLinear",
    "Mixture",
    "MixtureDensity",
    "MixtureNLLLoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "RMSNorm",
    "Residual",
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
