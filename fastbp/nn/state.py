"""Copying named tensors into others of the same names: everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp.autograd import no_grad
from fastbp.from_data import tensor
from fastbp.tensor import Tensor


def copy_into(
    owner: str, targets: dict[str, Tensor], given: Mapping[str, Any], strict: bool
) -> tuple[list[str], list[str]]:
    """Copies `given` into `targets` by name and returns the missing and the unexpected names.

    `given` holds Tensors or whatever NumPy reads as a numeric array; values are converted to the target's dtype.
    Raises one RuntimeError that names every problem, before any target is touched.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"[load_state_dict] expected state_dict to be a mapping of names to tensors, got {type(given).__name__}"
        )
    missing = [name for name in targets if name not in given]
    unexpected = [name for name in given if name not in targets]
    problems = []
    if strict and missing:
        problems.append(f"missing keys: {', '.join(missing)}")
    if strict and unexpected:
        problems.append(f"unexpected keys: {', '.join(map(str, unexpected))}")
    sources = {}
    for name, target in targets.items():
        if name in given:
            try:
                sources[name] = as_source(given[name], target)
            except ValueError as error:
                problems.append(f"{name}: {error}")
    if problems:
        raise RuntimeError(f"[load_state_dict] {owner}: " + "; ".join(problems))
    with no_grad():
        for name, source in sources.items():
            targets[name].detach().copy_(source)
    return missing, unexpected


def as_source(value: Any, target: Tensor) -> Tensor:
    """`value` as a tensor of the target's shape that `copy_` takes; a ValueError says why it cannot be one."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"expected a tensor or array, got {type(value).__name__} ({error})") from error
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"expected a tensor or array of numbers, got {type(value).__name__} of dtype {array.dtype}"
            )
        value = tensor(array, dtype=target.dtype)
    if value.shape != target.shape:
        raise ValueError(f"expected shape {target.shape}, got {value.shape}")
    return value
