"""`fastbp.compile`: a function of tensors that is recorded once and then runs as one native call."""

from __future__ import annotations

import functools
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastbp import _native, kernels
from fastbp._native import RecordingError
from fastbp.autograd import mode
from fastbp.from_data import from_numpy
from fastbp.ops.random import Generator, randperm
from fastbp.program import tree
from fastbp.program.epoch import Epoch
from fastbp.program.explain import explanation
from fastbp.program.record import StartAgain
from fastbp.program.variant import Variant
from fastbp.tensor import Tensor

_MOST_VARIANTS = 64
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# What a function may not ask for while it is recorded → what to write instead.
_INSTEAD = {
    "new data of the host": "make the tensor outside and pass it as an argument",
    "a tensor's values on the host": "return the tensor and read it outside; where() does what a branch would",
    "to give a tensor other memory": "use copy_(), which keeps its memory",
    "to hook a tensor from outside": "register the hook outside, once",
    "a metric on the host": "return the metric, and step the schedule outside",
    "to seed random numbers": "seed outside",
    "to change an optimizer's options": "change them outside, or by a schedule of fastbp.optim.lr_scheduler",
    "a tensor of an earlier recording": "return it, or keep it in a tensor and use copy_()",
    "to set an attribute of a module": "return the value, or keep it in a tensor and use copy_()",
    "a first result of one number, computed by the function": "return the loss, or leave out require_finite",
    "to overwrite much memory before its first result is known": "compute the loss first, or leave out require_finite",
    "a schedule's step between two steps of its optimizer": "compile one step, and call it twice",
    "a picture of its graph": "call the compiled function inside of explain, where it runs operation by operation",
}
_INDICES = "compute the indices outside and pass them as an argument, so that they can be checked before anything runs"


class CompileError(RuntimeError):
    """The function does what a program cannot; the message says where, and what to write instead."""


class Compiled(_native.Step):
    """A function that runs as a program. Made by `fastbp.compile`."""

    if TYPE_CHECKING:  # what csrc/bind_step.cpp has beside the call itself
        _last: Variant | None

        def _remember(self, *facts: Any) -> None: ...

    def __init__(self, function: Callable[..., Any], keep_grads: bool = False, require_finite: bool = False) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"[compile] expected a function, got {type(function).__name__}")
        self.function = function
        self.keep_grads = bool(keep_grads)
        self.require_finite = bool(require_finite)
        self._variants: dict[Any, list[Variant]] = {}
        self._lock = threading.RLock()
        functools.update_wrapper(self, function, updated=())

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else _Method(self, instance)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """What a call does where no known program may go ahead at once."""
        if kernels.recorder() is not None or mode.composed:  # part of a larger program, or of a picture of operations
            return self.function(*args, **kwargs)
        key, tensors = _key(args, kwargs)
        args, kwargs = tree.rebuild((args, kwargs), tensors)
        with self._lock:
            if _are_apart(tensors):
                result = self._run(key, tensors, args, kwargs)
                if result is not None:
                    return result[0]
        return self.function(*args, **kwargs)

    def _run(self, key: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """(what the function returns,), or None where no program can be sure to do the same."""
        found = self._holding(key)
        variant = found or self._recorded(key, args, kwargs)
        result = variant.run(tensors, first=found is None)
        self._know(variant, args, kwargs)
        return result

    def _holding(self, key: Any) -> Variant | None:
        """A recording that stands for the function now."""
        return next((variant for variant in self._variants.get(key, ()) if variant.holds()), None)

    def _recorded(self, key: Any, args: Any, kwargs: Any) -> Variant:
        """A new recording, whose events have happened."""
        variant = None
        while variant is None:
            try:
                variant = Variant(self.function, args, kwargs, self.keep_grads, self.require_finite)
            except StartAgain:
                continue
            except RecordingError as error:
                raise CompileError(_message(error)) from error
        variants = self._variants.setdefault(key, [])
        variants.insert(0, variant)
        if len(variants) > _MOST_VARIANTS:
            variants.pop()
        while len(self._variants) > _MOST_VARIANTS:
            del self._variants[next(iter(self._variants))]
        self._last = variant
        return variant

    def _prepared(self, args: Any, kwargs: Any) -> Variant:
        """A recording that holds for these arguments; a new one has run nothing, and its events have not happened."""
        key, tensors = _key(args, kwargs)
        args, kwargs = tree.rebuild((args, kwargs), tensors)
        found = self._holding(key)
        if found is None:
            found = self._recorded(key, args, kwargs)
            for event in reversed(found.events):
                event.undo()
        return found

    def _know(self, variant: Variant, args: Any, kwargs: Any) -> None:
        """Lets the next such call go straight to the program, where it is one of the simple kind."""
        self._last = variant
        facts = variant.facts(args, kwargs)
        if facts is not None:
            self._remember(variant, variant.built.program, *facts)

    def _standing(self, arrays: Sequence[Tensor], rows: int, before: tuple[Any, ...] = ()) -> Variant | None:
        """A recording that holds for so many rows of the arrays as arguments, and others before them."""
        structure = tree.flatten(((*before, *arrays), {}), [])
        kinds = tuple([((rows, *t.shape[1:]), t.buffer.dtype, t._requires_grad) for t in arrays])
        return self._holding(_context(structure, kinds))

    def run_epoch(
        self: Compiled | _Method,
        arrays: Sequence[Any],
        batch_size: int,
        permutation: Any = None,
        seed: int | None = None,
        drop_last: bool = False,
    ) -> Any:
        """Calls the function on batch after batch of rows of the arrays, natively; returns what the steps returned.

        arrays: tensors or NumPy arrays of equal length; a batch of each, in their order, are a step's arguments.
        permutation: the order of the rows, integers (rows,). seed: of a random one, instead.
        drop_last: leave out a last batch with fewer rows, which otherwise is a recording of its own.
        Each returned tensor gets a first dimension for the steps: a loss becomes (steps,). Schedules that the function
        steps are stepped for each batch. Ctrl-C is noticed between steps, about every 100 ms; the steps before it
        stand. Raises as the function does, TypeError and ValueError for arrays that do not fit.
        """
        if not isinstance(arrays, (list, tuple)):
            raise TypeError(
                f"[run_epoch] expected a list of arrays, one for each argument of a step, got a {type(arrays).__name__}"
            )
        if seed is not None:
            if permutation is not None:
                raise ValueError("[run_epoch] expected a permutation or a seed, got both")
            permutation = randperm(len(arrays[0]) if arrays else 0, generator=Generator(seed))
        epoch = Epoch(self, arrays, batch_size, permutation, drop_last)
        with self._lock:
            for _ in epoch:
                pass
        return epoch.results

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """Returns what the program for these arguments computes, in which order and memory, as text for people.

        Records it where no recording exists yet: the function's Python code runs then, but no kernel, so that tensors,
        schedules and random generators stay as they are. Without arguments: the recording that was used last.
        """
        with self._lock:
            if args or kwargs:
                self._last = self._prepared(args, kwargs)
            if self._last is None:
                raise ValueError("[explain] expected arguments to record, or a call before, got neither")
            return explanation(self._last, getattr(self, "__name__", type(self.function).__name__))


class _Method:
    """A compiled function as the method of an object, which comes first among its arguments."""

    def __init__(self, function: Compiled, instance: Any) -> None:
        self.__func__, self.__self__ = function, instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def _prepared(self, args: Any, kwargs: Any) -> Variant:
        return self.__func__._prepared((self.__self__, *args), kwargs)

    def _standing(self, arrays: Sequence[Tensor], rows: int) -> Variant | None:
        return self.__func__._standing(arrays, rows, (self.__self__,))

    run_epoch = Compiled.run_epoch

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """`Compiled.explain`, of the object."""
        return self.__func__.explain(*((self.__self__, *args) if args or kwargs else ()), **kwargs)


def compile(
    function: Callable[..., Any] | None = None, *, keep_grads: bool = False, require_finite: bool = False
) -> Any:
    """Returns the function as a program: recorded at its first call, then run natively as one call.

    The function may be any code that computes with tensors: a forward pass, or a whole training step with zero_grad,
    backward, clipping and optimizer steps. Tensors and arrays are its arguments, also in tuples, lists and dicts; they,
    parameters, optimizer state, options of optimizers and random generators are live. Everything else (Python numbers
    and objects) is as it was when the function was recorded; an argument of another value, a tensor of another shape or
    dtype, a changed module or mode selects another recording. Results are bit by bit those of the function itself.

    keep_grads: keep `grad` of the parameters after an optimizer's step; without it it is None then, and the gradient
    need never be stored. Returned tensors have no history.
    require_finite: raise FloatingPointError where the first returned tensor, one number, is NaN or infinite: weights,
    optimizer state and random generators are then as they were before the call.

    Raises CompileError, naming the line, where the function reads a tensor's value on the host or makes a tensor of new
    host data. As a decorator: `@fastbp.compile`, or `@fastbp.compile(keep_grads=True)`.
    """
    if function is None:
        return functools.partial(compile, keep_grads=keep_grads, require_finite=require_finite)
    return Compiled(function, keep_grads, require_finite)


def _key(args: Any, kwargs: Any) -> tuple[Any, list[Tensor]]:
    """What selects recordings, and the tensors among the arguments."""
    leaves: list[Any] = []
    structure = tree.flatten((args, kwargs), leaves)
    tensors = [leaf if isinstance(leaf, Tensor) else from_numpy(leaf) for leaf in leaves]
    kinds = tuple(
        [(t.buffer.shape, t.buffer.dtype, t._requires_grad, *map(id, (t.hooks or {}).values())) for t in tensors]
    )
    return _context(structure, kinds), tensors


def _context(structure: Any, kinds: Any) -> Any:
    return structure, kinds, mode.enabled, _native.isa(), _native.threads()


def _are_apart(tensors: list[Tensor]) -> bool:
    """Whether gradients of the arguments end in each of them alone, and start there."""
    wanted = [t for t in tensors if t._requires_grad]
    return all(t.grad is None and t._node is None for t in wanted) and len({id(t) for t in wanted}) == len(wanted)


def _message(error: RecordingError) -> str:
    """What the function asked for, in which line, and what to write instead."""
    needs = str(error)
    line = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        if not frame.f_code.co_filename.startswith(_HERE):
            line = f"{frame.f_code.co_filename}:{number}: "
    instead = _INSTEAD.get(needs, _INDICES)
    return (
        f"[compile] {line}expected a function whose tensors stay in the program, got one that needs {needs}; {instead}"
    )
