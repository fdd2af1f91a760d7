"""Every differentiable operation, one Function each, by family; derived operations are one-liners.

Importing this package installs the operators and methods on Tensor.
"""

from __future__ import annotations

from typing import Any

from fastbp import dtypes
from fastbp.dtypes import float32, float64, int64
from fastbp.ops import binary, create, gemm, index, inplace, loss, random, reduce, shape, softmax, unary
from fastbp.tensor import Tensor

# The public functions of every family: fastbp itself and nn.functional take their names from here.
PUBLIC = {
    unary: unary.__all__,
    binary: "add div eq ge gt isfinite isinf isnan le logical_and logical_not logical_or logical_xor lt maximum minimum mul ne pow sub "
    "where".split(),
    reduce: "all amax amin any argmax argmin logsumexp max mean min norm std sum var".split(),
    shape: "cat chunk clone expand flatten movedim permute reshape split squeeze stack t transpose unsqueeze".split(),
    index: "gather index_select".split(),
    gemm: "dot linear matmul".split(),
    softmax: "log_softmax softmax".split(),
    loss: "binary_cross_entropy binary_cross_entropy_with_logits cross_entropy l1_loss mse_loss nll_loss".split(),
    random: "Generator bernoulli dropout manual_seed rand rand_like randint randn randn_like randperm".split(),
    create: "arange as_tensor empty empty_like eye from_dlpack from_numpy full full_like linspace ones ones_like zeros "
    "zeros_like".split(),
}
# Functions that are not methods of Tensor, and methods that are not functions.
_NOT_METHODS = {"where", "cat", "stack", "linear"}
_ONLY_METHODS = {
    shape: "expand_as view to".split(),
    inplace: "add_ clamp_ copy_ div_ fill_ mul_ normal_ pow_ sub_ uniform_ zero_".split(),
}

__all__ = [name for names in PUBLIC.values() for name in names]
globals().update({name: getattr(module, name) for module, names in PUBLIC.items() for name in names})


def _install() -> None:
    methods: dict[str, Any] = {}
    for module, names in [*PUBLIC.items(), *_ONLY_METHODS.items()]:
        if module not in (loss, random, create):
            methods |= {name: getattr(module, name) for name in names if name not in _NOT_METHODS}
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
        "__matmul__": gemm.matmul,
        "__rmatmul__": lambda x, other: gemm.matmul(create.as_tensor(other), x),
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
    return isinstance(x, (Tensor, float, int)) or hasattr(x, "dtype")


def _operator(operation: Any) -> Any:
    return lambda x, other: operation(x, other) if _is_operand(other) else NotImplemented


def _reflected(operation: Any) -> Any:
    return lambda x, other: operation(other, x) if _is_operand(other) else NotImplemented


def _iterate(x: Tensor) -> Any:
    return (x[i] for i in range(len(x)))


_install()
