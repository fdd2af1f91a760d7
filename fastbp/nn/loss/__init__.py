"""Losses. Each module holds the options of the function of the same subject in `nn.functional`.

Every loss has `reduction` ("none", "mean" or "sum") and takes one `sample_weight` (N,) in its call; s_i is the weight
of row i, 1 where none is given. "none" gives the weighted losses undivided, "sum" their sum, and "mean" their sum
divided by the denominator that the class states.
"""

from fastbp.nn.loss.binary import (
    BCELoss,
    BCEWithLogitsLoss,
    HingeEmbeddingLoss,
    HingeLoss,
    SigmoidFocalLoss,
)
from fastbp.nn.loss.classes import CrossEntropyLoss, NLLLoss
from fastbp.nn.loss.likelihood import GaussianNLLLoss, KLDivLoss, MixtureNLLLoss, PoissonNLLLoss
from fastbp.nn.loss.regression import HuberLoss, L1Loss, MSELoss, QuantileLoss, SmoothL1Loss
from fastbp.nn.loss.similarity import CosineEmbeddingLoss

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MixtureNLLLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "QuantileLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
]
