"""The element types of tensors: float32 and float64 for values, int64 and bool for indices and masks."""

from __future__ import annotations

from typing import Any

import numpy as np


class DType:
    """An element type. `numpy.dtype(fastbp.float32)` works, and so does passing one where NumPy expects a dtype."""

    __slots__ = ("code", "dtype", "is_floating_point", "itemsize", "name")

    def __init__(self, name: str, code: int) -> None:
        self.name = name
        self.code = code  # position in csrc/kernel.h's enum DType
        self.dtype = np.dtype(name)  # NumPy reads this attribute
        self.itemsize = self.dtype.itemsize
        self.is_floating_point = self.dtype.kind == "f"

    def __repr__(self) -> str:
        return f"fastbp.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


float32 = DType("float32", 0)
float64 = DType("float64", 1)
int64 = DType("int64", 2)
bool = DType("bool", 3)

BY_CODE = (float32, float64, int64, bool)
FLOATING_CODES = (float32.code, float64.code)
_BY_NAME = {d.name: d for d in BY_CODE}
# What a value of another type becomes when it is copied: nothing is lost.
_WIDER = {"int8": int64, "int16": int64, "int32": int64, "uint8": int64, "uint16": int64, "uint32": int64,
          "float16": float32}  # fmt: skip
# Promotion: the later of two in this order, as PyTorch has it.
_RANK = {bool: 0, int64: 1, float32: 2, float64: 3}


def as_dtype(dtype: Any) -> DType:
    """The DType that a name, NumPy dtype, Python type or DType stands for; TypeError where there is none."""
    if isinstance(dtype, DType):
        return dtype
    if dtype is float:
        return float32
    try:
        return _BY_NAME[np.dtype(dtype).name]
    except (KeyError, TypeError):
        raise TypeError(f"[dtype] expected float32, float64, int64 or bool, got {dtype!r}") from None


def for_array(array: np.ndarray) -> DType:
    """The DType that a copy of the array gets; narrower integers and float16 are widened."""
    name = array.dtype.name
    found = _BY_NAME.get(name) or _WIDER.get(name)
    if found is None:
        raise TypeError(f"[tensor] expected numbers that fit float32, float64, int64 or bool, got dtype {name}")
    return found


def promote(a: DType, b: DType) -> DType:
    """The type in which operands of types a and b meet."""
    return a if _RANK[a] >= _RANK[b] else b
