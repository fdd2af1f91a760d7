"""Check mode: a backend that runs every kernel of another one, then its reference, and compares.

It wraps the other backend by attribute access, so dispatch is what it always is, and costs nothing when the mode is
off. `fastbp.check()` and FASTBP_CHECK=1 select it.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastbp import _native
from fastbp.kernels import calls, native, reference, tolerance
from fastbp.kernels.calls import Call

_numbers = itertools.count()


class CheckError(RuntimeError):
    """A kernel and its reference disagree; the message says where, and how to repeat the call.

    kernel: its name. operand: the tensor that is wrong, None when the reference refuses the call.
    path: the file with the inputs, for `replay`; None when it could not be written.
    """

    kernel: str
    operand: str | None
    path: str | None


class Checker:
    """The backend `checked`, each kernel of which is compared with its reference at every call."""

    def __init__(self, checked: Any) -> None:
        self.checked = checked

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.checked, name)
        if not hasattr(getattr(reference, name, None), "facts"):
            return value
        run = self.__dict__[name] = functools.partial(_run, self.checked, name)
        return run


checked_native = Checker(native)


def replay(path: str | os.PathLike[str]) -> None:
    """Repeats a call that a CheckError saved, on the native backend, and compares it with the reference again.

    Operands have the values, strides and alignment that they had; instruction set and threads are those of this
    process. Raises CheckError where kernel and reference still disagree, ValueError for another kind of file.
    """
    kernel, arguments = calls.load(os.fspath(path))
    names = reference.__dict__[kernel].facts.parameters if kernel in reference.__all__ else ()
    if set(names) != set(arguments):
        raise ValueError(f"[replay] expected a kernel of this version, got {kernel}({', '.join(arguments)})")
    _run(native, kernel, *(arguments[name] for name in names), path=os.fspath(path))


def _run(checked: Any, name: str, *arguments: Any, path: str | None = None) -> None:
    """Runs a kernel, then the reference on copies of the operands. `path` is where the call is saved already."""
    kernel, twin = getattr(checked, name), getattr(reference, name)
    try:
        call = Call(twin.facts, arguments)
    except TypeError as error:
        call, refusal = None, error
    if call is None:
        kernel(*arguments)  # which says in its own words what is wrong
        raise refusal
    call.run(kernel)
    try:
        expected = call.run_on_copies(twin)
    except MemoryError:
        raise
    except Exception as error:
        raise _error(call, None, f"expected a refusal, as the reference's ({error}), got a result", path) from error
    for label, sentence in _differences(call, expected):
        raise _error(call, label, sentence, path)


def _differences(call: Call, expected: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """What is wrong after a call, operand by operand."""
    for label in call.only_read:
        changed = calls.bits(call.now[label]) != calls.bits(call.before[label])
        if np.any(changed):
            i = _first(changed)
            yield (
                label,
                (
                    f"expected the input {label} to stay as it was, {label}{list(i)} = {call.before[label][i]!r}, "
                    f"got {call.now[label][i]!r}; {np.count_nonzero(changed)} of {changed.size} elements were changed"
                ),
            )
    before = call.named(call.before)
    for label in call.written:
        actual = call.now[label]
        if label in call.only_written:
            untouched = calls.poisoned(actual) & ~calls.poisoned(expected[label])
            if np.any(untouched):
                i = _first(untouched)
                yield (
                    label,
                    (
                        f"expected {label}{list(i)} = {expected[label][i]!r}, got an element that was not written; "
                        f"{np.count_nonzero(untouched)} of {untouched.size} elements were not written"
                    ),
                )
        worst = tolerance.worst(call.facts.name, label, before, expected[label], actual)
        if worst is not None:
            yield label, worst.sentence(label)


def _first(where: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape))


def _error(call: Call, operand: str | None, sentence: str, path: str | None) -> CheckError:
    """The exception for a call, which is saved unless it is in the file `path` already."""
    lines = [f"[{call.facts.name}] {sentence}"]
    for label, buffer in call.buffers.items():
        layout = "" if buffer.contiguous else f", strides {buffer.strides}"
        lines.append(f"  {label}: {call.now[label].dtype} {buffer.shape}{layout}")
    lines += [f"  {name} = {value!r}" for name, value in call.constants().items()]
    lines.append(f"  instruction set {_native.isa()}, threads {_native.threads()}")
    try:
        path = path or _save(call)
        lines.append(f"  inputs saved; to repeat the call: from fastbp.kernels.checker import replay; replay({path!r})")
    except OSError as error:
        lines.append(f"  inputs not saved: {error}")
    made = CheckError("\n".join(lines))
    made.kernel, made.operand, made.path = call.facts.name, operand, path
    return made


def _save(call: Call) -> str:
    """Writes the call to a new file in FASTBP_CHECK_DIR, or where temporary files go; returns its path."""
    folder = os.environ.get("FASTBP_CHECK_DIR") or tempfile.gettempdir()
    os.makedirs(folder, exist_ok=True)
    while True:
        path = os.path.join(folder, f"fastbp-check-{call.facts.name}-{os.getpid()}-{next(_numbers)}.npz")
        try:
            with open(path, "xb") as file:
                call.save(file)
            return path
        except FileExistsError:  # of an earlier process of this number
            continue
        except OSError:
            Path(path).unlink(missing_ok=True)  # half a file is of no use
            raise
