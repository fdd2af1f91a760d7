"""The one table of kernel cases: operands for every kernel, in the order of its signature.

A case yields several argument lists for a type T; everything random comes from the case's own seed. An operand that
the kernel overwrites is given as `Out`; one that it updates in place is an array. Each family of kernels is a file.
Tolerances are not here but in fastbp.kernels.tolerance.
"""

from cases import (  # noqa: F401  each fills the table
    copy,
    cross_entropy,
    element_loss,
    elementwise,
    gemm,
    loss,
    norm,
    optim,
    reduce,
    rng,
    softmax,
)
from cases.table import TABLE, Case, Out

__all__ = ["TABLE", "Case", "Out"]
