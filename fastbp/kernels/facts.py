"""What is known of a kernel before it runs, declared once, on its reference function.

Recorder, checker, scheduler, benchmarks and tests read these facts; nothing else lists kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

PARTITIONS = ("elements", "rows", "columns", "output rows", "outputs", "none")


class Facts(NamedTuple):
    """The facts of one kernel. Operands and constants are named as in its signature.

    inputs, inplace, outputs: operands that are read, read and written, written.
    optional, lists: operands that may be None; operands that are lists of tensors.
    whole: operands that every part of the work needs in full, whatever their shape.
    partition: how the work may be cut: "elements" (anywhere in the flat outputs), "rows" (rows of the outputs need
        the same rows of the inputs), "columns" (columns of matrices, with the same elements of vectors, of which the
        last output is one), "output rows" (rows of the outputs, each needing all inputs), "outputs" (the same, but not
        by rows), "none".
    dtypes: the types T that the kernel exists for.
    saved: what a unary operation keeps for its derivative, "x" or "y"; None for other kernels.
    """

    name: str
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    inplace: tuple[str, ...]
    outputs: tuple[str, ...]
    optional: frozenset[str]
    lists: frozenset[str]
    whole: frozenset[str]
    partition: str
    dtypes: tuple[str, ...]
    saved: str | None
    operations: Callable[..., int]

    @property
    def operands(self) -> tuple[str, ...]:
        """The tensor parameters, in order."""
        return tuple(p for p in self.parameters if p in self.inputs or p in self.inplace or p in self.outputs)

    @property
    def constants(self) -> tuple[str, ...]:
        """The parameters passed by value, in order."""
        return tuple(p for p in self.parameters if p not in self.operands)

    def reads(self, **arguments: Any) -> tuple[str, ...]:
        """Names of the operands that a call reads: with accumulate=True the outputs too."""
        written_only = () if arguments.get("accumulate") else self.outputs
        return tuple(p for p in self.operands if p not in written_only and arguments.get(p) is not None)

    def writes(self, **arguments: Any) -> tuple[str, ...]:
        """Names of the operands that a call writes."""
        return tuple(p for p in self.operands if p not in self.inputs and arguments.get(p) is not None)

    def bytes(self, **arguments: Any) -> int:
        """Bytes that a call reads plus bytes that it writes."""
        moved = self.reads(**arguments) + self.writes(**arguments)
        return sum(nbytes(arguments[p]) for p in moved)


def nbytes(operand: Any) -> int:
    """Bytes of a tensor, of a list of tensors, or of a number standing for a tensor (none)."""
    if isinstance(operand, (list, tuple)):
        return sum(nbytes(x) for x in operand)
    return int(getattr(operand, "nbytes", 0))


def size(operand: Any) -> int:
    """Elements of a tensor or of a list of tensors."""
    if isinstance(operand, (list, tuple)):
        return sum(size(x) for x in operand)
    return int(getattr(operand, "size", 1))


def parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters, or those that it declares in `parameters` where it takes any number.

    Without the inspect module, which takes longer to import than all kernels.
    """
    declared = getattr(function, "parameters", None)
    return declared or function.__code__.co_varnames[: function.__code__.co_argcount]


def kernel(
    *,
    inputs: str = "",
    inplace: str = "",
    outputs: str = "",
    whole: str = "",
    partition: str = "elements",
    operations: int | Callable[..., int] = 1,
    dtypes: str = "float32 float64",
    saved: str | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the facts of a reference kernel, whose body then sees NumPy arrays only.

    Operands are names separated by spaces, "?" after one that may be None, "*" after a list of tensors; all other
    parameters are by-value constants. `whole` names operands too. `operations` is a function of the named arguments, or
    a number of operations for each element of the last operand that is written.
    """
    groups = [words.split() for words in (inputs, inplace, outputs)]
    names = [tuple(word.rstrip("?*") for word in group) for group in groups]
    marked = [word for group in groups for word in group]

    def declare(body: Callable[..., None]) -> Callable[..., None]:
        parameters = parameters_of(body)
        operands = [n for group in names for n in group]
        if not set(operands) <= set(parameters) or partition not in PARTITIONS:
            raise ValueError(
                f"[{body.__name__}] facts {operands}, {partition!r} do not fit the parameters {parameters}"
            )
        written = [p for p in parameters if p in names[1] + names[2]][-1]

        def count(**arguments: Any) -> int:
            return operations(**arguments) if callable(operations) else operations * size(arguments[written])

        facts = Facts(
            name=body.__name__,
            parameters=parameters,
            inputs=names[0],
            inplace=names[1],
            outputs=names[2],
            optional=frozenset(word.rstrip("?*") for word in marked if "?" in word),
            lists=frozenset(word.rstrip("?*") for word in marked if "*" in word),
            whole=frozenset(whole.split()),
            partition=partition,
            dtypes=tuple(dtypes.split()),
            saved=saved,
            operations=count,
        )
        is_operand = tuple(p in operands for p in parameters)
        writes = tuple(i for i, p in enumerate(parameters) if p in names[1] + names[2])

        @functools.wraps(body)
        def run(*arguments: Any) -> None:
            if len(arguments) != len(parameters):
                raise TypeError(f"[{facts.name}] expected arguments {parameters}, got {len(arguments)}")
            with np.errstate(all="ignore"):
                body(*(_array(x) if tensor else x for x, tensor in zip(arguments, is_operand)))
            for i in writes:
                _count_write(arguments[i])

        run.facts = facts  # type: ignore[attr-defined]
        return run

    return declare


def kernels(module: ModuleType) -> dict[str, Callable[..., None]]:
    """All kernels with facts that a module exports, by name."""
    return {name: f for name, f in vars(module).items() if hasattr(f, "facts")}


def _count_write(operand: Any) -> None:
    """Tells buffers that they were written to through their NumPy views."""
    for x in operand if isinstance(operand, (list, tuple)) else (operand,):
        if hasattr(x, "touch"):
            x.touch()


def _array(operand: Any) -> Any:
    """A NumPy view of a tensor; None and numbers as they are; lists element by element."""
    if operand is None or isinstance(operand, (np.ndarray, int, float)):
        return operand
    if isinstance(operand, (list, tuple)):
        return [np.asarray(x) for x in operand]
    return np.asarray(operand)
