"""Neural-network modules, losses and starting values, under PyTorch's names."""

from typing import TYPE_CHECKING

from fastbp.nn import activation, functional, init, utils
from fastbp.nn.activation import *  # noqa: F403 - the derived classes: ReLU, GELU, Softmax, ...
from fastbp.nn.container import ModuleDict, ModuleList, Sequential
from fastbp.nn.dropout import Dropout
from fastbp.nn.flatten import Flatten
from fastbp.nn.linear import Identity, Linear
from fastbp.nn.loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss
from fastbp.nn.module import Module
from fastbp.nn.parameter import Parameter

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "L1Loss",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "Sequential",
    "functional",
    "init",
    "utils",
    *activation.__all__,
]

if TYPE_CHECKING:  # the derived classes, for type checkers

    def __getattr__(name: str) -> type[activation.Activation]: ...
