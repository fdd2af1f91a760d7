"""Optimizer: parameter groups, state and live scalars, shared by all update rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import ModuleType
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np

from fastbp import kernels
from fastbp.autograd import enable_grad
from fastbp.from_data import tensor
from fastbp.optim.state import checked_state, write_state
from fastbp.tensor import Tensor, filled

_FREE_OPTIONS = ("name", "initial_lr")  # what users and schedulers may add to a group


instances: WeakSet[Optimizer] = WeakSet()  # all optimizers: a recording looks whether their options change


@dataclass(eq=False)
class Cohort:
    """Parameters of one group, device and dtype that have taken the same steps: one kernel call updates them all.

    `hyper` is a float64 tensor that the kernels read and advance: the step count, the live scalars of the group, then
    what else the update rule keeps by step. A cohort splits when only some of its parameters have a gradient, so that
    each parameter counts its own steps; cohorts never merge.
    """

    group: dict[str, Any]
    params: list[Tensor]
    hyper: Tensor
    slots: tuple[str, ...]

    count: int  # of live scalars

    @property
    def cells(self) -> np.ndarray:
        """`hyper` as a writable array."""
        return np.asarray(self.hyper.buffer)

    @property
    def live(self) -> np.ndarray:
        """The live scalars in `hyper`."""
        return self.cells[1 : 1 + self.count]


class Optimizer:
    """Base class of optimizers.

    `params` is an iterable of tensors, or of groups: dicts with "params" and options that replace the defaults.
    State is created here, not at the first step. Options may be changed at any time in `param_groups`; `step()` reads
    them anew. Parameters without a gradient are skipped, and a skipped step does not count for them.

    An update rule defines the four methods and the two tables below; a class that defines its own `step` needs none.
    """

    _not_negative: ClassVar[tuple[str, ...]] = ()  # options that must be numbers of at least 0
    _progress: ClassVar[dict[str, int]] = {"step": 0}  # what `hyper` counts by itself: name → cell

    _options: list[list[Any]]  # that were copied to where the kernels read them
    _synced: object  # another one whenever what the kernels read may no longer be what it was

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)  # of copies too, which are not initialised
        instances.add(self)
        self._options, self._synced = [], object()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_options", "_synced")}

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(f"{self._tag} expected an iterable of tensors or of groups, got a {type(params).__name__}")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._cohorts: list[Cohort] = []
        given: list[Any] = list(params)
        if not given:
            raise ValueError(f"{self._tag} expected parameters, got an empty list")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    # The update rule

    def _check_options(self, group: dict[str, Any]) -> None:
        """Raises ValueError where options do not fit together."""

    def _live(self, group: dict[str, Any]) -> tuple[float, ...]:
        """The scalars in cells 1, 2, … of `hyper`."""
        return ()

    def _slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the state tensors that the options ask for."""
        return ()

    def _choices(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """The options that decide which kernels run, and on what."""
        return self._slots(group)

    def _update(
        self,
        k: ModuleType,
        group: dict[str, Any],
        hyper: Any,
        grads: list[Any],
        state: dict[str, list[Any]],
        params: list[Any],
    ) -> None:
        """Advances `hyper` and updates state and parameters by kernels of `k`; all operands are buffers."""
        raise NotImplementedError(f"{self._tag} expected a step method, got none")

    def _initial(self, group: dict[str, Any], slot: str) -> float:
        """The value that a state tensor starts from."""
        return 0.0

    def _write(self, cells: np.ndarray, group: dict[str, Any]) -> None:
        live = self._live(group)
        cells[1 : 1 + len(live)] = live

    def _progress_at(self, group: dict[str, Any], step: float, saved: Mapping[str, Any]) -> dict[str, float]:
        """What the cells of `_progress` hold after `step` steps, of which some may have been saved."""
        return {"step": step}

    # Groups

    @property
    def _tag(self) -> str:
        return f"[{type(self).__name__}]"

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Adds a group, a dict with "params" and options; what it leaves out comes from the defaults."""
        index = len(self.param_groups)
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(
                f"{self._tag} expected group {index} to be a dict with 'params', got {_outline(param_group)}"
            )
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(f"{self._tag} expected the parameters of group {index} in an order, got a set")
        params = [params] if isinstance(params, Tensor) else list(params)
        group = {"params": params, **self.defaults, **{name: v for name, v in param_group.items() if name != "params"}}
        for name in group:
            if name not in ("params", *self.defaults, *_FREE_OPTIONS):
                expected = ", ".join(self.defaults)
                raise ValueError(f"{self._tag} expected options {expected} in group {index}, got {name!r}")
        self._check_params(index, params)
        self._check_group(index, group)
        self.param_groups.append(group)
        kinds: dict[Any, list[Tensor]] = {}
        for param in params:
            kinds.setdefault((param.device, param.dtype), []).append(param)
        for members in kinds.values():
            self._cohorts.append(self._new_cohort(group, members))
        self._synced = object()

    def _check_params(self, index: int, params: list[Any]) -> None:
        seen = {id(param) for group in self.param_groups for param in group["params"]}
        for position, param in enumerate(params):
            place = f"parameter {position} of group {index}"
            if not isinstance(param, Tensor):
                raise TypeError(f"{self._tag} expected {place} to be a tensor, got {type(param).__name__}")
            if not param.is_leaf:
                raise ValueError(f"{self._tag} expected {place} to be a leaf tensor, got the result of an operation")
            if not param.dtype.is_floating_point:
                raise ValueError(f"{self._tag} expected {place} to be float32 or float64, got {param.dtype}")
            if not param.is_contiguous():
                raise ValueError(
                    f"{self._tag} expected {place} to be contiguous, got shape {tuple(param.shape)} with strides"
                )
            if id(param) in seen:
                raise ValueError(f"{self._tag} expected each parameter once, got {place} a second time")
            seen.add(id(param))

    def _check_group(self, index: int, group: dict[str, Any]) -> None:
        for name in self._not_negative:
            value = group[name]
            if not (isinstance(value, Real) and float(value) >= 0):
                raise ValueError(f"{self._tag} expected {name} >= 0 in group {index}, got {value!r}")
        self._check_options(group)

    def _new_cohort(self, group: dict[str, Any], params: list[Tensor]) -> Cohort:
        size = 1 + max([len(self._live(group)), *self._progress.values()])
        cells = np.zeros(size)
        for cell in self._progress.values():
            cells[cell] = 0.0 if cell == 0 else 1.0  # the count starts at 0, powers at 1
        self._write(cells, group)
        cohort = Cohort(group, params, tensor(cells).to(params[0].device), (), len(self._live(group)))
        self._create_state(cohort)
        return cohort

    def _create_state(self, cohort: Cohort) -> None:
        cohort.slots = self._slots(cohort.group)
        for param in cohort.params:
            for slot in cohort.slots:
                if slot not in self.state[param]:
                    self.state[param][slot] = filled(param.shape, self._initial(cohort.group, slot), param.dtype)

    def _split(self, cohort: Cohort, kept: list[Tensor]) -> Cohort:
        """Leaves `kept` in the cohort and moves the others to a new one with the same history."""
        ids = {id(param) for param in kept}
        rest = [param for param in cohort.params if id(param) not in ids]
        cohort.params = kept
        other = Cohort(cohort.group, rest, cohort.hyper.clone(), cohort.slots, cohort.count)
        self._cohorts.insert(self._cohorts.index(cohort) + 1, other)
        self._synced = object()
        return other

    # Steps

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters, or fills them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad = param.grad.detach().zero_()

    def _sync(self) -> None:
        """Copies the live options of all groups to where the kernels read them.

        `step` does it; whoever replays a recorded step calls it first.
        """
        options = [[v for name, v in group.items() if name != "params"] for group in self.param_groups]
        if options != self._options:
            for index, group in enumerate(self.param_groups):
                self._check_group(index, group)
            self._options, self._synced = options, object()
        for cohort in self._cohorts:
            self._write(cohort.cells, cohort.group)

    def _frozen(self) -> tuple[Any, ...]:
        """What a recorded step cannot be told: another value needs another recording."""
        return tuple((id(cohort), len(cohort.params), self._choices(cohort.group)) for cohort in self._cohorts)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient; returns what `closure`, called first, returns."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._sync()
        for cohort in list(self._cohorts):
            params = [param for param in cohort.params if param.grad is not None]
            if params:
                if len(params) < len(cohort.params):
                    self._split(cohort, params)
                self._step_cohort(cohort)
        return loss

    def _step_cohort(self, cohort: Cohort) -> None:
        if cohort.slots != self._slots(cohort.group):  # an option changed since, momentum from 0 for example
            self._create_state(cohort)
        params = cohort.params
        states = [self.state[param] for param in params]
        self._update(
            kernels.of(params[0]),
            cohort.group,
            cohort.hyper.buffer,
            [param.grad.contiguous().buffer for param in params],
            {slot: [state[slot].buffer for state in states] for slot in cohort.slots},
            [param.buffer for param in params],
        )

    # Saving and loading

    def _positions(self) -> dict[int, int]:
        params = [param for group in self.param_groups for param in group["params"]]
        return {id(param): position for position, param in enumerate(params)}

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number of a parameter: its state}, "param_groups": [options, "params" being numbers]}, as PyTorch.

        State tensors are the optimizer's own, not copies. Numbers that the kernels count ("step", powers of the betas)
        are Python floats of each parameter.
        """
        positions = self._positions()
        state: dict[int, dict[str, Any]] = {}
        for cohort in self._cohorts:
            progress = {name: float(cohort.cells[cell]) for name, cell in self._progress.items()}
            for param in cohort.params:
                state[positions[id(param)]] = {**progress, **self.state[param]}
        groups = []
        for group in self.param_groups:
            numbers = [positions[id(param)] for param in group["params"]]
            groups.append({**{name: v for name, v in group.items() if name != "params"}, "params": numbers})
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over options and state from `state_dict()`, also PyTorch's; tensors may be NumPy arrays.

        Everything is checked before anything is written; one ValueError names all that does not fit.
        """
        write_state(self, checked_state(self, state_dict))

    def __repr__(self) -> str:
        lines = []
        for index, group in enumerate(self.param_groups):
            options = ", ".join(f"{name}={value!r}" for name, value in group.items() if name != "params")
            count = sum(param.numel() for param in group["params"])
            lines.append(f"  ({index}): {options}; {len(group['params'])} tensors, {count} parameters")
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


def _outline(value: Any) -> str:
    return f"a dict with {list(value)}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
