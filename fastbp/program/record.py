"""The recorder: it notes the kernel calls of a function, and the tensors, modules and optimizers that it relied on.

A function's kernels are seen by the backend that takes their place. What it reads beside them (which buffer a tensor
has, whether there is a gradient, a module's mode) is seen by watching those attributes while somebody records: outside
of that, nothing is paid for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastbp import kernels
from fastbp._native import PLACEHOLDERS, RecordingError
from fastbp.kernels import native, reference
from fastbp.nn.module import Module, instances
from fastbp.ops.random import Generator
from fastbp.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from fastbp.optim.optimizer import Optimizer
from fastbp.optim.optimizer import instances as optimizers
from fastbp.program.calls import Call
from fastbp.tensor import Tensor
from fastbp.watching import Watch, watched


@dataclass
class Gradient:
    """`grad` of a tensor: what it was before, its stand-in while recording, and what the function left there."""

    tensor: Tensor
    before: Tensor | None
    stand_in: Tensor | None
    read_first: bool  # so that what was there before matters
    after: Tensor | None = None
    used_by_step: bool = False  # of an optimizer


class Event(NamedTuple):
    """A change of the host's side of the state, which the program cannot make: options read, or set by a schedule."""

    subject: Optimizer | LRScheduler
    undo: Callable[[], None]

    @classmethod
    def of(cls, subject: Optimizer | LRScheduler) -> Event:
        """The event before it happens."""
        if isinstance(subject, Optimizer):
            written = [(cohort.cells, cohort.cells.copy()) for cohort in subject._cohorts]

            def rewrite() -> None:
                for cells, before in written:
                    cells[:] = before

            return cls(subject, rewrite)
        state, groups = subject.state_dict(), [dict(group) for group in subject.optimizer.param_groups]

        def undo() -> None:
            subject.load_state_dict(state)
            for group, options in zip(subject.optimizer.param_groups, groups):
                group.update(options)

        return cls(subject, undo)

    def happen(self) -> None:
        """The same change once more."""
        self.subject._sync() if isinstance(self.subject, Optimizer) else self.subject.step()


class StartAgain(BaseException):
    """State was divided that the calls so far have as one. It stays so: a second recording finds it divided."""


Options = list[dict[str, Any]]  # of each group of an optimizer, but for the parameters


def options_of(optimizer: Optimizer) -> Options:
    return [{name: v for name, v in group.items() if name != "params"} for group in optimizer.param_groups]


class Recorder(kernels.Recording):
    """The calls of a function and what they rely on. Made by `recording`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.tensors: dict[int, tuple[Tensor, Any, bool, Any]] = {}  # by id: (tensor, buffer, requires_grad, hooks)
        self.gradients: dict[int, Gradient] = {}  # by id of the tensor
        self.made: dict[int, Tensor | Module] = {}  # by id: kept, so that no id comes twice
        self.modules: dict[int, Module] = {}  # by id: those that were called
        self.modes: dict[int, tuple[Module, bool]] = {}  # by id: (module, training) of those that were asked
        self.events: list[Event] = []  # in order
        self.optimizers: dict[int, Optimizer] = {}  # by id: those that did something
        # The options of all optimizers, as they were, or as an event has left them.
        self.options = {id(optimizer): (optimizer, options_of(optimizer)) for optimizer in list(optimizers)}

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(native, name)
        if not hasattr(getattr(reference, name, None), "facts"):
            return kernel

        calls = self.calls  # and not `self`, which would keep itself, and all that it has seen, alive

        def note(*arguments: Any) -> None:
            kernel(*arguments)  # checks its arguments, and does nothing: this thread records
            calls.append(Call(name, arguments))

        self.__dict__[name] = note
        return note

    def see(self, t: Tensor, buffer: Any) -> None:
        """Notes a tensor from outside of the function."""
        if id(t) not in self.tensors and id(t) not in self.made:
            if buffer.data_ptr >= PLACEHOLDERS:
                raise RecordingError("a tensor of an earlier recording")
            self.tensors[id(t)] = t, buffer, t._requires_grad, t.hooks

    def gradient(self, t: Tensor, present: Tensor | None, reads: bool) -> Tensor | None:
        """Notes the first look at a tensor's gradient; returns what stands for it."""
        if id(t) in self.gradients or id(t) in self.made:
            return present
        stand_in = None
        if reads and present is not None:
            if not present.is_contiguous():
                with kernels.unrecorded():
                    present = present.contiguous()
            stand_in = Tensor(present.buffer.empty_like())
            stand_in._requires_grad = present._requires_grad
            _grad.__set__(t, stand_in)
        self.gradients[id(t)] = Gradient(t, present, stand_in, reads)
        return stand_in

    def know(self, optimizer: Optimizer) -> None:
        """Notes an optimizer, with the options that an event has given it."""
        self.optimizers[id(optimizer)] = optimizer
        self.options[id(optimizer)] = optimizer, options_of(optimizer)

    def require_options(self) -> None:
        """Refuses options that were changed by other means than events."""
        if any(options_of(optimizer) != options for optimizer, options in self.options.values()):
            raise RecordingError("to change an optimizer's options")

    def holders(self) -> list[tuple[Module, dict[str, Any]]]:
        """The modules that were called or that hold what was used, however far up, with their attributes."""
        found = dict(self.modules)
        used = {*self.tensors, *found}
        rest = list(instances)
        while rest:
            more = [m for m in rest if id(m) not in found and any(id(v) in used for v in m.__dict__.values())]
            found |= {id(m): m for m in more}
            used |= {id(m) for m in more}
            rest = [m for m in rest if id(m) not in found] if more else []
        return [(m, attributes_of(m)) for m in found.values() if id(m) not in self.made]

    def stand_in(self, t: Tensor) -> Tensor:
        """A tensor like an argument, of which the program knows no more than its kind."""
        x = Tensor(t.buffer.empty_like())
        x._requires_grad, x.hooks = t._requires_grad, t.hooks
        return x

    def restore(self) -> None:
        """Gives every tensor the gradient that it had, having noted what the function left."""
        for gradient in self.gradients.values():
            gradient.after = _grad.__get__(gradient.tensor)
            _grad.__set__(gradient.tensor, gradient.before)


def attributes_of(module: Module) -> dict[str, Any]:
    """All that a module has but for its mode."""
    return {name: value for name, value in module.__dict__.items() if name != "training"}


@contextmanager
def recording() -> Iterator[Recorder]:
    """Notes what this thread does instead of doing it. Gradients are as before when the block is left."""
    recorder = Recorder()
    with watched(_WATCHED), kernels.recorded(recorder):
        try:
            yield recorder
        except BaseException:
            for event in reversed(recorder.events):
                event.undo()
            raise
        finally:
            recorder.restore()


def buffer_of(t: Tensor) -> Any:
    """A tensor's buffer, unwatched."""
    return _buffer.__get__(t)


# ---------------------------------------------------------------- what is watched

_buffer: Any = Tensor.__dict__["buffer"]
_grad: Any = Tensor.__dict__["grad"]
_hooks: Any = Tensor.__dict__["hooks"]


def _get_buffer(t: Tensor) -> Any:
    b = _buffer.__get__(t)
    if recorder := kernels.recorder():
        recorder.see(t, b)
    return b


def _set_buffer(t: Tensor, b: Any) -> None:
    if recorder := kernels.recorder():
        if _is_made(t):
            raise RecordingError("to give a tensor other memory")
        recorder.made[id(t)] = t
    _buffer.__set__(t, b)


def _get_grad(t: Tensor) -> Any:
    present = _grad.__get__(t)
    recorder = kernels.recorder()
    return recorder.gradient(t, present, True) if recorder else present


def _set_grad(t: Tensor, value: Any) -> None:
    recorder = kernels.recorder()
    if recorder and id(t) not in recorder.made:
        recorder.gradient(t, _grad.__get__(t), False)
    _grad.__set__(t, value)


def _is_made(t: Tensor) -> bool:
    """Whether a tensor is past its constructor."""
    try:
        _grad.__get__(t)
    except AttributeError:
        return False
    return True


def _set_hooks(t: Tensor, hooks: Any) -> None:
    recorder = kernels.recorder()
    if recorder and id(t) not in recorder.made:
        raise RecordingError("to hook a tensor from outside")
    _hooks.__set__(t, hooks)


def _get_training(module: Module) -> bool:
    if "training" not in module.__dict__:
        return module.__getattr__("training")  # which says why
    training = module.__dict__["training"]
    if recorder := kernels.recorder():
        recorder.modes.setdefault(id(module), (module, training))
    return training


def _set_training(module: Module, training: bool) -> None:
    recorder = kernels.recorder()
    if recorder and "training" not in module.__dict__:  # the first attribute that a new module gets
        recorder.made[id(module)] = module
    module.__dict__["training"] = training


def _set_attribute(module: Module, name: str, value: Any) -> None:
    recorder = kernels.recorder()
    as_it_was = name == "training" or (name in module.__dict__ and module.__dict__[name] is value)
    if recorder and not as_it_was and id(module) not in recorder.made:
        raise RecordingError("to set an attribute of a module")
    _plain_set_attribute(module, name, value)


def _noting_call(call: Callable[..., Any]) -> Callable[..., Any]:
    def noted(module: Module, *args: Any, **kwargs: Any) -> Any:
        if recorder := kernels.recorder():
            recorder.modules.setdefault(id(module), module)
        return call(module, *args, **kwargs)

    return noted


def _noting_event(method: Callable[..., Any]) -> Callable[..., Any]:
    def noted(subject: Any, *args: Any) -> Any:
        recorder = kernels.recorder()
        with kernels.unrecorded():
            if recorder is None:
                return method(subject, *args)
            recorder.require_options()
            recorder.events.append(Event.of(subject))
            result = method(subject, *args)
            recorder.know(subject if isinstance(subject, Optimizer) else subject.optimizer)
            return result

    return noted


def _noting_optimizer(method: Callable[..., Any]) -> Callable[..., Any]:
    def noted(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if recorder := kernels.recorder():
            recorder.optimizers[id(optimizer)] = optimizer
        return method(optimizer, *args, **kwargs)

    return noted


def _noting_split(split: Callable[..., Any]) -> Callable[..., Any]:
    def noted(optimizer: Optimizer, *args: Any) -> Any:
        recorder = kernels.recorder()
        with kernels.unrecorded():
            other = split(optimizer, *args)
        if recorder and sum(event.subject is optimizer for event in recorder.events) > 1:
            raise StartAgain  # the new part has the count of before the first of its steps
        return other

    return noted


def _refused(method: Callable[..., Any], needs: str) -> Callable[..., Any]:
    def refuse(subject: Any, *args: Any, **kwargs: Any) -> Any:
        if kernels.recorder():
            raise RecordingError(needs)
        return method(subject, *args, **kwargs)

    return refuse


def _unrecorded(method: Callable[..., Any]) -> Callable[..., Any]:
    def run(subject: Any, *args: Any) -> Any:
        with kernels.unrecorded():
            return method(subject, *args)

    return run


_plain_set_attribute = Module.__setattr__
_WATCHED: tuple[Watch, ...] = (
    (Tensor, "buffer", lambda _: property(_get_buffer, _set_buffer)),
    (Tensor, "grad", lambda _: property(_get_grad, _set_grad)),
    (Tensor, "hooks", lambda _: property(_hooks.__get__, _set_hooks)),
    (Module, "__call__", _noting_call),
    (Module, "__setattr__", lambda _: _set_attribute),
    (Module, "training", lambda _: property(_get_training, _set_training)),
    (Optimizer, "_sync", _noting_event),
    (Optimizer, "_split", _noting_split),
    (Optimizer, "_create_state", _unrecorded),
    (Optimizer, "zero_grad", _noting_optimizer),
    (LRScheduler, "_advance", _noting_event),
    (ReduceLROnPlateau, "step", lambda step: _refused(step, "a metric on the host")),
    (Generator, "manual_seed", lambda seed: _refused(seed, "to seed random numbers")),
    (Generator, "set_state", lambda set_state: _refused(set_state, "to seed random numbers")),
)
