"""An epoch of a compiled step: rows gathered, steps run and results kept without returning to Python in between."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastbp import kernels
from fastbp.autograd import mode, no_grad
from fastbp.from_data import from_numpy
from fastbp.kernels.storage import Buffer, empty, from_array
from fastbp.optim.optimizer import Optimizer
from fastbp.program import tree
from fastbp.program.record import Event
from fastbp.program.variant import Variant
from fastbp.tensor import Tensor

_SLICE = 0.1  # seconds between returns to Python, where signals and progress bars have their turn
_MOST_STEPS = 1 << 16


class Epoch:
    """The batches of one epoch over arrays of equal length, run by a compiled function.

    Iterate over it: each turn runs as many steps as take about 100 ms, and gives how many those were. `results` is then
    what the steps returned, each tensor with a first dimension for the steps.
    """

    def __init__(self, compiled: Any, arrays: Sequence[Any], batch_size: int, order: Any, drop_last: bool) -> None:
        self.compiled = compiled
        self.arrays = [(x if isinstance(x, Tensor) else from_numpy(np.asarray(x))).detach() for x in arrays]
        self.arrays = [x if x.is_contiguous() else x.contiguous() for x in self.arrays]
        if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__"):
            raise TypeError(f"[run_epoch] expected batch_size as an integer, got {batch_size!r}")
        self.batch_size = operator.index(batch_size)
        if not self.arrays or any(x.ndim == 0 or x.shape[0] != self.arrays[0].shape[0] for x in self.arrays):
            raise ValueError(
                f"[run_epoch] expected arrays of equal length, got shapes {[x.shape for x in self.arrays]}"
            )
        if self.batch_size < 1:
            raise ValueError(f"[run_epoch] expected batch_size >= 1, got {batch_size}")
        self.order = None if order is None else _checked_order(order, self.arrays[0].shape[0])
        self.rows = self.arrays[0].shape[0] if self.order is None else self.order.size
        self.whole: int = self.rows // self.batch_size
        self.steps = self.whole + (self.rows % self.batch_size > 0 and not drop_last)
        if self.steps == 0:
            raise ValueError(f"[run_epoch] expected at least one batch of {batch_size} rows, got {self.rows} rows")
        self._value: Any = None  # what the first step returned
        self._columns: list[list[np.ndarray]] = []  # of each tensor in it, with a first dimension for steps
        self._checked: Variant | None = None  # whose index checks the arrays have passed
        self.done = 0  # steps; where one raised, those before it
        self.last: list[np.ndarray] = []  # each tensor that the steps of the last turn returned

    def __iter__(self) -> Iterator[int]:
        count = 1
        if self.whole and _programs_run():
            first = self.compiled._prepared(tuple(self.batch(0)), {})  # all indices are checked before the first step
            if self.steps > self.whole:
                last = self.compiled._prepared(tuple(self.batch(self.whole)), {})
                for a, b in zip(first.results, last.results):
                    _require_one_shape(a.shape, b.shape)
        while self.done < self.steps:
            begun = time.perf_counter()
            taken = self._run_many(self.done, min(count, self.whole - self.done)) or self._run_one(self.done)
            self.done += taken
            count = min(max(int(taken * _SLICE / (time.perf_counter() - begun)), 1), 100 * taken, _MOST_STEPS)
            yield taken

    @property
    def results(self) -> Any:
        """As the function returned them, but with a first dimension for the steps."""
        return tree.rebuild(self._value, [from_numpy(np.concatenate(column)) for column in self._columns])

    def _run_one(self, step: int) -> int:
        try:
            value = self.compiled(*self.batch(step))
        except FloatingPointError as error:
            if not str(error).startswith("[compile] "):
                raise
            raise FloatingPointError(_not_finite(str(error).rpartition(" ")[2], step)) from None
        self._keep(value, None)
        return 1

    def batch(self, step: int) -> list[Tensor]:
        """The arguments of one step."""
        begin, end = step * self.batch_size, min((step + 1) * self.batch_size, self.rows)
        with no_grad():
            if self.order is None:
                return [x[begin:end].clone() for x in self.arrays]
            rows = Tensor(self.order.view((end - begin,), (1,), begin))
            return [x[rows] for x in self.arrays]

    def _run_many(self, first: int, count: int) -> int:
        """Runs steps natively; returns how many: 0 where a step has to be run on its own."""
        variant = self.compiled._standing(self.arrays, self.batch_size) if count > 0 else None
        if variant is None or not variant.repeatable or not _programs_run():
            return 0
        if not variant.built.program.can_order([x.buffer for x in self.arrays]):
            return 0  # steps that write to the arrays
        schedule = _Schedule(variant, count)
        if schedule.settings is None:
            return 0
        try:
            inputs = [_real(b) for b in variant.inputs]
            memory = {b.storage[0]: empty((b.storage[1],), _BOOL) for b in variant.outputs}
            results = [b.placed(memory[b.storage[0]], 0) for b in variant.results]
            tables = [empty((count, *b.shape), b.dtype) for b in variant.results]
            program = variant.built.program
            arguments = (
                inputs,
                list(memory.values()),
                [x.buffer for x in self.arrays],
                self.order,
                first * self.batch_size,
                count,
                self.batch_size,
                schedule.settings,
                list(zip(results, tables)),
                self._checked is not variant,
            )
        except BaseException:
            schedule.take_back(0)
            raise
        try:
            done = program.run_epoch(*arguments)
        except Exception:  # before any step; Ctrl-C, where it comes, comes after all of them
            schedule.take_back(0)
            raise
        self._checked = variant
        variant.leave_gradients()
        self._keep(variant.value, [np.asarray(table)[:done] for table in tables])
        if done < count:
            schedule.take_back(done)
            self.done = first + done
            raise FloatingPointError(_not_finite(program.guarded_value, self.done))
        return count

    def _keep(self, value: Any, tables: list[np.ndarray] | None) -> None:
        """Appends what a step returned, or tables of what many did."""
        if tables is None:
            leaves: list[Any] = []
            tree.flatten(value, leaves)
            tables = [np.array(leaf.detach().numpy())[None] for leaf in leaves]
        self.last = tables
        if self._value is None:
            self._value = value
            self._columns = [[] for _ in tables]
        for column, table in zip(self._columns, tables):
            if column:
                _require_one_shape(column[0].shape[1:], table.shape[1:])
            column.append(table)


_BOOL = 3  # the dtype code with elements of one byte


def _programs_run() -> bool:
    """Whether steps may run as programs here: natively, unchecked, and not for a picture of their operations."""
    return kernels.host_is_native() and not mode.composed


def _real(b: Buffer) -> Buffer:
    return empty(b.shape, b.dtype)


def _not_finite(value: Any, step: int) -> str:
    return f"[run_epoch] expected a finite first result, got {value} in step {step}"


def _require_one_shape(first: tuple[int, ...], other: tuple[int, ...]) -> None:
    if first != other:
        raise ValueError(
            f"[run_epoch] expected results of one shape in all steps, got {first} and {other}: return sums or means, "
            "or use drop_last"
        )


def _checked_order(order: Any, rows: int) -> Buffer:
    values = order.detach().numpy() if isinstance(order, Tensor) else np.asarray(order)
    expected = f"[run_epoch] expected a permutation as integers from 0 to {rows - 1}"
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise ValueError(f"{expected} in one dimension, got {values.dtype} of shape {values.shape}")
    if values.size and not 0 <= values.min() <= values.max() < rows:
        raise ValueError(f"{expected}, got {values.min()} to {values.max()}")
    return from_numpy(np.array(values, np.int64)).buffer  # a copy: steps may change what was given


class _Schedule:
    """Options of optimizers over the next steps of a program, whose schedules are stepped here in advance.

    settings: (cells of an optimizer, their values by step); None where options change that are more than numbers to
    copy: then nothing was stepped.
    """

    def __init__(self, variant: Variant, count: int) -> None:
        self.events = [*variant.before, *variant.after]
        self.undo: list[Callable[[], None]] = []
        self.settings: list[tuple[Buffer, Buffer]] | None = []
        if all(isinstance(event.subject, Optimizer) for event in self.events):
            self._step()
            return
        try:
            self.settings = self._tables(variant, count)
        except Exception:  # which the step on its own will raise
            self.settings = None
        except BaseException:
            self.take_back(0)
            raise
        if self.settings is None:
            self.take_back(0)

    def _tables(self, variant: Variant, count: int) -> list[tuple[Buffer, Buffer]] | None:
        tables: dict[int, tuple[Buffer, np.ndarray]] = {}
        for step in range(count):
            if not self._step():
                return None
            for cohort in [cohort for event in variant.before for cohort in getattr(event.subject, "_cohorts", ())]:
                live = cohort.count
                if id(cohort) not in tables:
                    tables[id(cohort)] = cohort.hyper.buffer.view((live,), (1,), 1), np.empty((count, live))
                tables[id(cohort)][1][step] = cohort.live
        return [(cells, from_array(values)) for cells, values in tables.values()]

    def _step(self) -> bool:
        """One step's events; False where an optimizer changed more than its live options."""
        same = True
        for event in self.events:
            self.undo.append(Event.of(event.subject).undo)
            progress = _progress(event.subject)
            event.happen()
            same = same and _progress(event.subject) == progress
        return same

    def take_back(self, done: int) -> None:
        """Leaves the schedules as they are after so many steps, and what kernels have counted in those as it is."""
        steps = [event.subject for event in self.events if isinstance(event.subject, Optimizer)]
        cells_of = [(cohort.cells, i) for rule in steps for cohort in rule._cohorts for i in rule._progress.values()]
        counted = [(cells, i, cells[i]) for cells, i in cells_of] if done else []
        for undo in reversed(self.undo):
            undo()
        for _ in range(done):
            for event in self.events:
                event.happen()
        for cells, i, value in counted:
            cells[i] = value


def _progress(subject: Any) -> list[float]:
    """What an optimizer's kernels count by themselves."""
    if not isinstance(subject, Optimizer):
        return []
    return [float(cohort.cells[cell]) for cohort in subject._cohorts for cell in subject._progress.values()]
