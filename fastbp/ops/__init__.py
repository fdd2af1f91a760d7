"""Every differentiable operation, one Function each, by family; derived operations are one-liners.

Importing this package installs the operators and methods on Tensor.
"""

from __future__ import annotations

from typing import Any

from fastbp import dtypes
from fastbp.dtypes import float32, float64, int64
from fastbp.ops import binary, create, gemm, index, inplace, loss, random, reduce, shape, unary
from fastbp.ops import norm as norm_family
from fastbp.ops import softmax as softmax_family
from fastbp.ops.binary import *
from fastbp.ops.create import *
from fastbp.ops.gemm import *
from fastbp.ops.index import *
from fastbp.ops.loss import *
from fastbp.ops.norm import *
from fastbp.ops.random import *
from fastbp.ops.reduce import *
from fastbp.ops.shape import *
from fastbp.ops.softmax import *
from fastbp.ops.unary import *
from fastbp.tensor import Tensor

__all__: list[str] = []
__all__ += binary.__all__
__all__ += create.__all__
__all__ += gemm.__all__
__all__ += index.__all__
__all__ += loss.__all__
__all__ += norm_family.__all__
__all__ += random.__all__
__all__ += reduce.__all__
__all__ += shape.__all__
__all__ += softmax_family.__all__
__all__ += unary.__all__

# Functions that are not methods of Tensor, and methods that are not functions.
_NOT_METHODS = {"where", "cat", "stack", "linear", "embedding"}
_ONLY_METHODS = {
    shape: ["expand_as", "view", "to"],
    inplace: ["add_", "clamp_", "copy_", "div_", "fill_", "mul_", "normal_", "pow_", "sub_", "uniform_", "zero_"],
}


def _install() -> None:
    methods: dict[str, Any] = {}
    for family in (unary, binary, reduce, shape, index, gemm, softmax_family):
        methods |= {name: getattr(family, name) for name in family.__all__ if name not in _NOT_METHODS}
    for family, names in _ONLY_METHODS.items():
        methods |= {name: getattr(family, name) for name in names}
    methods |= {
        "contiguous": shape.make_contiguous,
        "float": lambda x: x.to(float32),
        "double": lambda x: x.to(float64),
        "long": lambda x: x.to(int64),
        "bool": lambda x: x.to(dtypes.bool),
        "type_as": lambda x, other: x.to(other.dtype),
        "masked_fill": lambda x, mask, value: binary.where(mask, value, x),
        "T": property(lambda x: shape.permute(x, range(x.ndim - 1, -1, -1))),
        "mT": property(lambda x: shape.transpose(x, -2, -1)),
        "__getitem__": index.getitem,
        "__setitem__": index.setitem,
        "__iter__": _iterate,
        "__neg__": unary.neg,
        "__pos__": lambda x: x,
        "__abs__": unary.abs,
        "__invert__": binary.logical_not,
        "__matmul__": _operator(lambda a, b: gemm.matmul(a, create.as_tensor(b))),
        "__rmatmul__": _reflected(lambda a, b: gemm.matmul(create.as_tensor(a), b)),
        "__contains__": lambda x, value: reduce.any(binary.eq(x, value)).item(),
        "__truediv__": _operator(binary.div),
        "__rtruediv__": _reflected(binary.div),
        "__itruediv__": inplace.augmented(inplace.div_, binary.div),
    }
    for name in ("add", "sub", "mul", "pow"):
        operation = getattr(binary, name)
        methods[f"__{name}__"] = _operator(operation)
        methods[f"__r{name}__"] = _reflected(operation)
        methods[f"__i{name}__"] = inplace.augmented(getattr(inplace, name + "_"), operation)
    for name in ("and", "or", "xor"):
        operation = getattr(binary, "logical_" + name)
        methods[f"__{name}__"] = _operator(operation)
        methods[f"__r{name}__"] = _reflected(operation)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        methods[f"__{name}__"] = _operator(getattr(binary, name))
    for name, method in methods.items():
        setattr(Tensor, name, method)


def _is_operand(x: Any) -> bool:
    return isinstance(x, (float, int, Tensor)) or hasattr(x, "dtype")


def _operator(operation: Any) -> Any:
    def method(x: Tensor, other: Any) -> Any:
        return operation(x, other) if isinstance(other, Tensor) or _is_operand(other) else NotImplemented

    return method


def _reflected(operation: Any) -> Any:
    return lambda x, other: operation(other, x) if _is_operand(other) else NotImplemented


def _iterate(x: Tensor) -> Any:
    return (x[i] for i in range(len(x)))


_install()
