"""The reference backend: every kernel in NumPy, the specification that other backends are tested against.

Bodies are short and plain; each family is a file, named as in csrc. A kernel's facts are declared on its function, and
`__all__` lists the functions that have them: there is no other list of kernels.
"""

from fastbp.kernels import facts as _facts
from fastbp.kernels.reference import copy as _copy
from fastbp.kernels.reference import cross_entropy as _cross_entropy
from fastbp.kernels.reference import element_loss as _element_loss
from fastbp.kernels.reference import elementwise as _elementwise
from fastbp.kernels.reference import gemm as _gemm
from fastbp.kernels.reference import index as _index
from fastbp.kernels.reference import loss as _loss
from fastbp.kernels.reference import norm as _norm
from fastbp.kernels.reference import optim as _optim
from fastbp.kernels.reference import reduce as _reduce
from fastbp.kernels.reference import rng as _rng
from fastbp.kernels.reference import softmax as _softmax
from fastbp.kernels.storage import Buffer, empty, from_array, from_dlpack  # noqa: F401  what every backend has

__all__: list[str] = []
for _family in (
    _copy, _index, _gemm, _elementwise, _reduce, _softmax, _norm, _loss, _cross_entropy, _element_loss, _rng, _optim,
):  # fmt: skip
    # A kernel may hide the file of its family: `reference.copy` is the kernel.
    globals().update(_facts.kernels(_family))
    __all__ += _facts.kernels(_family)
