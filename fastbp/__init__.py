"""fastbp: a backpropagation engine with compiled kernels, under PyTorch's names.

import fastbp
from fastbp import nn

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = fastbp.optim.Adam(model.parameters(), lr=1e-3)
loss = nn.functional.cross_entropy(model(x), y)
loss.backward()
optimizer.step()
"""

from __future__ import annotations

import importlib
from typing import Any

try:
    import fastbp._native  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "fastbp's compiled extension is missing: install with `pip install .`, and leave the source folder to use it"
    ) from error

from fastbp import autograd as _tape
from fastbp import ops as _ops
from fastbp.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from fastbp.dtypes import DType, bool, float32, float64, int64
from fastbp.from_data import tensor
from fastbp.function import Function
from fastbp.gradcheck import GradcheckError, gradcheck, gradgradcheck
from fastbp.kernels import backend, check
from fastbp.ops import *  # noqa: F403  the operations, by name, from the one list in ops
from fastbp.runtime import get_num_threads, info, set_num_threads
from fastbp.tensor import Tensor
from fastbp.version import __version__

# Loaded when first used, so that `import fastbp` stays quick.
_LAZY = {"nn", "optim", "data", "train", "serialization", "plots", "graph"}
_LAZY_NAMES = {
    **dict.fromkeys(["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"], "derivatives"),
    "save": "serialization",
    "load": "serialization",
    "CheckError": "kernels.checker",
    "compile": "program.compile",
    "CompileError": "program.compile",
    "explain": "graph.explain",
    "summary": "nn.summary",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"fastbp.{name}")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(f"fastbp.{_LAZY_NAMES[name]}"), name)
    raise AttributeError(f"module 'fastbp' has no attribute {name!r}")


def _of_autograd(name: str) -> Any:
    """PyTorch's places: autograd.Function, autograd.grad, autograd.functional."""
    if name == "Function":
        return Function
    if name in ("grad", "functional"):
        derivatives = importlib.import_module("fastbp.derivatives")
        return derivatives if name == "functional" else derivatives.grad
    raise AttributeError(f"module 'fastbp.autograd' has no attribute {name!r}")


setattr(_tape, "__getattr__", _of_autograd)  # noqa: B010


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_NAMES})


__all__ = [
    *_ops.__all__,
    "DType",
    "Function",
    "GradcheckError",
    "Tensor",
    "__version__",
    "backend",
    "bool",
    "check",
    "enable_grad",
    "float32",
    "float64",
    "get_num_threads",
    "gradcheck",
    "gradgradcheck",
    "info",
    "int64",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
    "set_num_threads",
    "tensor",
]
