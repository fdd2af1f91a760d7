"""Loading an optimizer's state: first all checks, then all writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.autograd import no_grad
from fastbp.nn.state import as_source
from fastbp.tensor import Tensor

_UNUSED = ("foreach", "fused", "capturable", "differentiable")  # how PyTorch computes, not what


@dataclass
class Checked:
    """What `checked_state` found fit to be written."""

    groups: list[dict[str, Any]]
    tensors: dict[Tensor, dict[str, Tensor]]
    progress: dict[Tensor, dict[str, float]]


def checked_state(optimizer: Any, given: Any) -> Checked:
    """`given` against the optimizer's groups and state; raises one ValueError with all that does not fit."""
    problems: list[str] = []
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= set(given):
        problems.append(f"expected a dict with 'state' and 'param_groups', got a {type(given).__name__}")
        given = {"state": {}, "param_groups": []}
    checked = Checked([], {}, {})
    groups, state = list(given["param_groups"]), dict(given["state"])
    if not problems and len(groups) != len(optimizer.param_groups):
        problems.append(f"expected {len(optimizer.param_groups)} parameter groups, got {len(groups)}")
    # Lengths may differ here: then that is a problem already, and the rest is still looked at.
    for index, (own, new) in enumerate(zip(optimizer.param_groups, groups, strict=False)):
        options, numbers = _options(optimizer, index, own, new, problems)
        checked.groups.append(options)
        for param, number in zip(own["params"], numbers, strict=False):
            entry = state.pop(number, state.pop(str(number), None)) or {}
            _entry(optimizer, {**own, **options}, param, number, entry, checked, problems)
    if state and not problems:
        problems.append(f"expected state of the listed parameters only, got parameters {list(state)}")
    if problems:
        raise ValueError(f"[load_state_dict] {type(optimizer).__name__}: " + "; ".join(problems))
    return checked


def _options(
    optimizer: Any, index: int, own: dict[str, Any], new: Any, problems: list[str]
) -> tuple[dict[str, Any], list[Any]]:
    if not isinstance(new, Mapping):
        problems.append(f"expected group {index} to be a dict, got {type(new).__name__}")
        return {}, []
    options = {name: value for name, value in new.items() if name != "params" and name not in _UNUSED}
    numbers = list(new.get("params", ()))
    if len(numbers) != len(own["params"]):
        problems.append(f"expected {len(own['params'])} parameters in group {index}, got {len(numbers)}")
    missing = [name for name in optimizer.defaults if name not in options]
    if missing:
        problems.append(f"expected options {missing} in group {index}, got none")
    decoupled = type(optimizer).__name__ == "AdamW"
    for name, only in (("maximize", False), ("decoupled_weight_decay", decoupled)):
        if options.pop(name, only) != only:
            problems.append(f"expected {name} = {only} in group {index}, got {not only}")
    if isinstance(options.get("betas"), list):  # JSON makes lists of tuples
        options["betas"] = tuple(options["betas"])
    try:
        optimizer._check_group(index, {**own, **options})
    except ValueError as error:
        problems.append(str(error))
        return {}, numbers
    return options, numbers


def _entry(
    optimizer: Any,
    group: dict[str, Any],
    param: Tensor,
    number: Any,
    entry: Any,
    checked: Checked,
    problems: list[str],
) -> None:
    """One parameter's state. Slots that are absent start anew, which PyTorch's state before a first step needs."""
    slots = optimizer._slots(group)
    tensors = {}
    for name, value in entry.items():
        if name in optimizer._progress or value is None:
            continue
        if name not in slots:
            problems.append(f"expected state {list(slots)} of parameter {number}, got {name!r}")
            continue
        try:
            tensors[name] = as_source(value, param)
        except ValueError as error:
            problems.append(f"state {name!r} of parameter {number}: {error}")
    missing = [slot for slot in slots if entry.get(slot) is None]
    step = float(
        entry.get("step", 1.0 if tensors else 0.0)
    )  # PyTorch's SGD keeps no step, but a velocity means it took one
    if step > 0 and missing:
        problems.append(f"expected state {missing} of parameter {number} after {step:g} steps, got none")
    checked.tensors[param] = tensors
    checked.progress[param] = optimizer._progress_at(group, step, entry)


def write_state(optimizer: Any, checked: Checked) -> None:
    """Writes in place: cohorts keep their buffers, and split where their parameters' histories differ."""
    for group, options in zip(optimizer.param_groups, checked.groups, strict=True):
        for name in [name for name in group if name not in ("params", *options)]:
            del group[name]
        group.update(options)
    for cohort in list(optimizer._cohorts):
        optimizer._create_state(cohort)
        while len(kept := _same_history(cohort.params, checked)) < len(cohort.params):
            other = optimizer._split(cohort, kept)
            _write_cohort(optimizer, cohort, checked)
            cohort = other
        _write_cohort(optimizer, cohort, checked)


def _same_history(params: list[Tensor], checked: Checked) -> list[Tensor]:
    return [param for param in params if checked.progress[param] == checked.progress[params[0]]]


def _write_cohort(optimizer: Any, cohort: Any, checked: Checked) -> None:
    cells: np.ndarray = cohort.cells
    optimizer._write(cells, cohort.group)
    for name, value in checked.progress[cohort.params[0]].items():
        cells[optimizer._progress[name]] = value
    with no_grad():
        for param in cohort.params:
            for slot in cohort.slots:
                own, new = (optimizer.state[param][slot], checked.tensors[param].get(slot))
                own.fill_(optimizer._initial(cohort.group, slot)) if new is None else own.copy_(new)
