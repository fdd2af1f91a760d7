"""One recording of a function: the program, what must still be so for it to stand for the function, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastbp import kernels
from fastbp._native import PLACEHOLDERS, RecordingError, find_slots
from fastbp.kernels.storage import Buffer, empty
from fastbp.nn import module as nn_module
from fastbp.optim.optimizer import Optimizer
from fastbp.program import record, tree
from fastbp.program.build import build
from fastbp.program.calls import Call
from fastbp.program.record import Event
from fastbp.tensor import Tensor

_BOOL = 3  # the dtype code with elements of one byte
find_slots(Tensor)


class Variant:
    """A program for arguments of certain shapes, made by running `function` once on a recorder."""

    def __init__(
        self, function: Callable[..., Any], args: Any, kwargs: Any, keep_grads: bool = False, finite: bool = False
    ) -> None:
        given: list[Tensor] = []
        tree.flatten((args, kwargs), given)
        self.hooks = [t.hooks for t in given]  # kept, since they are known by their ids
        with record.recording() as recorder:
            inputs = [recorder.stand_in(t) for t in given]
            args, kwargs = tree.rebuild((args, kwargs), inputs)
            self.value = function(*args, **kwargs)
            self.events = _checked(recorder)
        self._note_results()
        if finite and self.first not in self.made:
            raise RecordingError("a first result of one number, computed by the function")
        self._note_state(recorder)
        self._note_gradients(recorder, inputs, keep_grads)
        self.finite = finite
        self.inputs = [x.buffer for x in inputs] + [g.stand_in.buffer for g in self.gradients if g.stand_in is not None]
        self.outputs = [*self.results, *[b for _, b in self.kept], *[g.buffer for _, g in self.given_gradients]]
        self.built = build(recorder.calls, self.inputs, self.outputs, finite)
        touches = [touch for call in recorder.calls for touch in call.touches(0)]
        written = {touch.storage for touch in touches if touch.writes}
        self.changed = [i for i, b in enumerate(self.inputs) if b.storage[0] in written]
        outside = [touch for touch in touches if touch.storage < PLACEHOLDERS]
        self.built.program.set_reach(
            [(t.low, t.high) for t in outside], [(t.low, t.high) for t in outside if t.writes], self.changed
        )

    def _note_results(self) -> None:
        """leaves: tensors and arrays in what the function returns; made: which of them it computes, as `results`.
        first: the first tensor among them."""
        self.leaves: list[Any] = []
        tree.flatten(self.value, self.leaves)
        tensors = [(i, t) for i, t in enumerate(self.leaves) if isinstance(t, Tensor)]
        self.made = [i for i, t in tensors if t.buffer.data_ptr >= PLACEHOLDERS]
        self.results = [self.leaves[i].buffer for i in self.made]
        self.first = next((i for i, _ in tensors), None)
        # What was there before is returned itself, unless it is a recorded view: results have no history.
        self.leaves = [t.detach() if isinstance(t, Tensor) and t._node is not None else t for t in self.leaves]

    def _note_state(self, recorder: record.Recorder) -> None:
        """What the recording relied on, and the events that the host has to repeat: until the last step, and after."""
        self.tensors = list(recorder.tensors.values())
        self.modules = recorder.holders()
        self.modes = list(recorder.modes.values())
        steps = [i + 1 for i, event in enumerate(self.events) if isinstance(event.subject, Optimizer)]
        last = steps[-1] if steps else 0
        self.before, self.after = self.events[:last], self.events[last:]
        subjects = [event.subject for event in self.events]
        self.stepping = list(dict.fromkeys(subject for subject in subjects if isinstance(subject, Optimizer)))
        self.optimizers = [(optimizer, optimizer._frozen()) for optimizer in recorder.optimizers.values()]
        # Steps of an optimizer's own making read their options as they please.
        self.read = [recorder.options[id(o)] for o in recorder.optimizers.values() if o not in self.stepping]

    def _note_gradients(self, recorder: record.Recorder, inputs: Sequence[Tensor], keep_grads: bool) -> None:
        """Which gradients a run finds, leaves and takes away."""
        stepped = {id(p) for o in self.stepping for group in o.param_groups for p in group["params"]}
        self.gradients = list(recorder.gradients.values())
        self.given_gradients = [(i, x.grad) for i, x in enumerate(inputs) if x.grad is not None]
        self.has_gradient = {id(g.tensor) for g in self.gradients}
        for g in self.gradients:
            g.used_by_step = id(g.tensor) in stepped and not g.read_first and not keep_grads
        self.kept = [
            (g.tensor, g.after.buffer)
            for g in self.gradients
            if g.after is not None and g.after is not g.stand_in and not g.used_by_step
        ]

    # ------------------------------------------------------------------ whether it still holds

    def holds(self) -> bool:
        """Whether a run would do what the function would do now."""
        return (
            all(
                record.buffer_of(t) is b and t._requires_grad is requires_grad and t.hooks is hooks
                for t, b, requires_grad, hooks in self.tensors
            )
            and all(module.training is training for module, training in self.modes)
            and all(_same_objects(record.attributes_of(module), before) for module, before in self.modules)
            and all(_alike(g.tensor.grad, g.stand_in) for g in self.gradients if g.read_first)
            and all(optimizer._frozen() == frozen for optimizer, frozen in self.optimizers)
            and all(record.options_of(optimizer) == options for optimizer, options in self.read)
        )

    def facts(self, args: Any, kwargs: Any) -> Any:
        """What the program relies on, as csrc/bind_step.cpp takes it; None where a call needs more than that."""
        value = self.value
        results = value if type(value) is tuple else () if value is None else (value,)
        if (
            kwargs
            or self.kept
            or self.after
            or len(results) != len(self.made)
            or not all(isinstance(event.subject, Optimizer) for event in self.before)
            or not all(isinstance(x, Tensor) and not x._requires_grad for x in args)
            or not all(isinstance(x, Tensor) for x in results)
            or any(g.stand_in is not None for g in self.gradients)
        ):
            return None
        entries: list[tuple[Any, Any, Any]] = [(vars(nn_module), "_structure", nn_module._structure)]
        entries += [(vars(module), "training", training) for module, training in self.modes]
        for optimizer, _ in self.optimizers:
            entries.append((vars(optimizer), "_synced", optimizer._synced))
            for group in optimizer.param_groups:
                entries += [(group, name, value) for name, value in group.items() if name not in ("params", "name")]
        entries += [(g.tensor, None, None) for g in self.gradients if g.read_first]
        dropped = [g.tensor for g in self.gradients]
        return self.inputs, self.outputs, self.tensors, entries, dropped, len(results), type(value) is tuple

    # ------------------------------------------------------------------ running

    def run(self, given: Sequence[Tensor], first: bool = False) -> Any:
        """Runs the program on the tensors among the arguments; returns (the function's value,).

        None, and nothing was run, where memory that the program changes has other names too: then its order is the
        function's own. first: right after the recording, whose events count.
        """
        undo = [event.undo for event in self.events] if first else []
        try:
            buffers = self._buffers(given)
            for event in () if first else self.before:
                undo.append(Event.of(event.subject).undo)
                event.happen()
            outputs = None if buffers is None else self._compute(buffers)
        except BaseException:
            for restore in reversed(undo):
                restore()
            raise
        if outputs is None:
            for restore in reversed(undo):
                restore()
            return None
        for event in () if first else self.after:
            event.happen()
        self.leave_gradients()
        made = len(self.results)
        for (t, _), b in zip(self.kept, outputs[made:]):
            t.grad = Tensor(b)
        for (i, _), b in zip(self.given_gradients, outputs[made + len(self.kept) :]):
            given[i].grad = Tensor(b)
        leaves = list(self.leaves)
        for i, b in zip(self.made, outputs):
            leaves[i] = Tensor(b)
        return (tree.rebuild(self.value, leaves),)

    def _buffers(self, given: Sequence[Tensor]) -> list[Buffer] | None:
        """The memory of the inputs; None where the program cannot take the function's place."""
        if any(id(given[i]) in self.has_gradient for i, _ in self.given_gradients):
            return None  # of the two gradients of one tensor, only the last would stay
        if any(i < len(given) and not given[i].buffer.contiguous for i in self.changed):
            return None  # the program would change a copy
        buffers = [t.buffer if t.buffer.contiguous else t.detach().contiguous().buffer for t in given]
        for g in self.gradients:
            if g.stand_in is not None:
                g.tensor.grad = g.tensor.grad.contiguous()
                buffers.append(g.tensor.grad.buffer)
        return buffers

    def leave_gradients(self) -> None:
        """Takes away the gradients that the function took away, or that an optimizer has used."""
        for g in self.gradients:
            if g.after is None or g.after is not g.stand_in:
                g.tensor.grad = None

    @property
    def repeatable(self) -> bool:
        """Whether a run depends on its inputs and on memory alone, needs no check after another one, and gives nothing
        but results."""
        plain = not self.kept and not self.given_gradients and not self.changed and len(self.made) == len(self.leaves)
        return plain and self.built.program.checks_stand and all(g.stand_in is None for g in self.gradients)

    def _compute(self, inputs: Sequence[Buffer]) -> list[Buffer] | None:
        """The outputs, or None where the program has no fixed order."""
        if kernels.host_is_native():
            return self.built.program.run(inputs, self.outputs)
        if not self.built.program.can_order(inputs):
            return None
        calls = [*self.built.constants, *self.built.calls]
        with _kept(calls):
            outputs = run_calls(calls, self.inputs, inputs, self.outputs)
            if self.finite and not np.isfinite(value := np.asarray(outputs[0])).all():
                raise FloatingPointError(f"[compile] expected a finite first result, got {value}")
        return outputs


@contextmanager
def _kept(calls: Sequence[Call]) -> Iterator[None]:
    """Puts back what calls write to memory that outlives them, where one raises."""
    outliving = {}
    for call in calls:
        writes = call.facts.writes(**call.named())
        for name, b in call.buffers():
            if name in writes and b.data_ptr < PLACEHOLDERS and b.extent not in outliving:
                outliving[b.extent] = b, np.array(b)
    try:
        yield
    except BaseException:
        for b, values in reversed(outliving.values()):
            np.asarray(b)[...] = values
            b.touch()
        raise


def run_calls(
    calls: Sequence[Call], placeholders: Sequence[Buffer], inputs: Sequence[Buffer], outputs: Sequence[Buffer]
) -> list[Buffer]:
    """Runs calls one by one on the backend in use, and returns the buffers that `outputs` stand for."""
    memory = {p.storage[0]: b for p, b in zip(placeholders, inputs)}

    def real(b: Buffer) -> Buffer:
        begin, size = b.storage
        if begin < PLACEHOLDERS:
            return b
        if begin not in memory:
            memory[begin] = empty((size,), _BOOL)
        return b.placed(memory[begin], 0)

    backend = kernels.host()
    for call in calls:
        getattr(backend, call.kernel)(*call.map(real).arguments)
    return [real(b) for b in outputs]


def _same_objects(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return len(a) == len(b) and all(b.get(name, a) is value for name, value in a.items())


def _alike(gradient: Tensor | None, stand_in: Tensor | None) -> bool:
    if gradient is None or stand_in is None:
        return gradient is stand_in
    return gradient.buffer.same_kind(stand_in.buffer)


def _checked(recorder: record.Recorder) -> list[Event]:
    """Events in their order, where a program may leave them to the host before and after a run."""
    recorder.require_options()
    stepped: set[int] = set()
    changed: set[int] = set()
    for subject, _ in recorder.events:
        if not isinstance(subject, Optimizer):
            changed.add(id(subject.optimizer))
        elif id(subject) in stepped and id(subject) in changed:
            raise RecordingError("a schedule's step between two steps of its optimizer")
        else:
            stepped.add(id(subject))
    return recorder.events
