"""How far a backend's result may be from the reference: the one place, for the tests and for check mode.

A kernel without a rule here is exact: equal bits, all NaNs counting as one value. A rule gives the largest difference
allowed at each element, from the error analysis of the numerical contract: u = eps/2 for every rounding, chains of 512
terms, bounds in units in the last place (ULP) for vector functions. Nothing is a chosen percentage.
"""

from fastbp.kernels.tolerance import element_loss, elementwise, loss, norm, optim, products, softmax
from fastbp.kernels.tolerance.rules import RULES, allowed, difference, same, worst

__all__ = [
    "RULES",
    "allowed",
    "difference",
    "element_loss",
    "elementwise",
    "loss",
    "norm",
    "optim",
    "products",
    "same",
    "softmax",
    "worst",
]
