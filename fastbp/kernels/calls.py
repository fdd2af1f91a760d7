"""A kernel call as data: its operands by label, copies of what they held, and a file that it can be repeated from.

A tensor of a list operand is labelled "params[0]", any other by its parameter. Looking at operands here leaves no
trace: their buffers are not marked as shared, and no write is counted.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from fastbp.dtypes import BY_CODE
from fastbp.kernels.facts import Facts
from fastbp.kernels.storage import Buffer, from_array

CACHE_LINE = 64
# What an operand to be overwritten holds before: quiet NaNs with a payload that no arithmetic makes, an unlikely
# integer, a byte that is no truth value. As bits, so that it is told from every other NaN.
POISON = {"float32": 0x7FE5A5A5, "float64": 0x7FFCA5A5A5A5A5A5, "int64": 0x25A5A5A5A5A5A5A5, "bool": 0xA5}


class _Window:
    """What NumPy needs to see a buffer's memory, without the mark that np.asarray(buffer) leaves on it."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        dtype = BY_CODE[buffer.dtype].dtype
        self.__array_interface__ = {
            "version": 3,
            "shape": buffer.shape,
            "typestr": dtype.str,
            "strides": tuple(s * dtype.itemsize for s in buffer.strides),
            "data": (buffer.data_ptr, buffer.readonly),
        }


def window(buffer: Any) -> np.ndarray:
    """The memory of a buffer as an array."""
    return np.asarray(_Window(buffer))


def bits(array: np.ndarray) -> np.ndarray:
    """The same memory as unsigned integers."""
    return array.view(f"u{array.itemsize}")


def poison(array: np.ndarray) -> None:
    """Marks every element as not yet written."""
    bits(array)[...] = POISON[array.dtype.name]


def poisoned(array: np.ndarray) -> np.ndarray:
    """Where elements are as `poison` left them."""
    return np.asarray(bits(array) == POISON[array.dtype.name])


class Call:
    """The arguments of a call, with copies of what every operand held when this was made.

    Raises TypeError for arguments that are not as the kernel's facts have them.
    """

    def __init__(self, facts: Facts, arguments: tuple[Any, ...]) -> None:
        if len(arguments) != len(facts.parameters):
            raise TypeError(f"[{facts.name}] expected arguments {facts.parameters}, got {len(arguments)}")
        self.facts = facts
        self.arguments = dict(zip(facts.parameters, arguments))
        self.buffers: dict[str, Any] = {}
        names: dict[str, str] = {}
        for label, name, buffer in _operands(facts, self.arguments):
            if not isinstance(buffer, Buffer):
                raise TypeError(f"[{facts.name}] expected {label} as a buffer, got {type(buffer).__name__}")
            self.buffers[label], names[label] = buffer, name
        self.now = {label: window(buffer) for label, buffer in self.buffers.items()}
        self.before = {label: np.array(array, order="C") for label, array in self.now.items()}
        reads, writes = facts.reads(**self.arguments), facts.writes(**self.arguments)
        self.read = [label for label, name in names.items() if name in reads]
        self.written = [label for label, name in names.items() if name in writes]
        self.overwritten = [label for label in self.written if label not in self.read]
        # One that shares memory with an operand of the other kind is read and written, whatever the facts say.
        self.only_read = [i for i in self.read if i not in self.written and not self._meets(i, self.written)]
        self.only_written = [o for o in self.overwritten if not self._meets(o, self.read)]

    def _meets(self, label: str, others: list[str]) -> bool:
        return any(np.may_share_memory(self.now[label], self.now[other]) for other in others)

    def run(self, kernel: Callable[..., None]) -> None:
        """Calls the kernel on the operands, poison in those that it only writes; restores these if the call fails."""
        writable = [label for label in self.only_written if not self.buffers[label].readonly]
        try:
            for label in writable:
                poison(self.now[label])
            kernel(*self.arguments.values())
        except BaseException:
            for label in writable:
                self.now[label][...] = self.before[label]
            raise

    def run_on_copies(self, kernel: Callable[..., None]) -> dict[str, np.ndarray]:
        """Calls the kernel on arrays that hold what the operands held before; returns those that it writes."""
        arrays = {label: array.copy() for label, array in self.before.items()}
        for label in self.overwritten:
            poison(arrays[label])
        for label in self.read:
            arrays[label].flags.writeable = label in self.written
        kernel(*self.named(arrays).values())
        return {label: arrays[label] for label in self.written}

    def named(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """The arguments by name, with these arrays in place of the operands; None for those that have none."""
        arguments = dict(self.arguments)
        for name in self.facts.operands:
            value = arguments[name]
            if isinstance(value, (list, tuple)):
                arguments[name] = [arrays.get(f"{name}[{i}]") for i in range(len(value))]
            elif not _by_value(value):
                arguments[name] = arrays.get(name)
        return arguments

    def constants(self) -> dict[str, Any]:
        """What is passed by value: constants, and numbers and None in place of operands."""
        operands = self.facts.operands
        return {name: v for name, v in self.arguments.items() if name not in operands or _by_value(v)}

    def save(self, file: BinaryIO) -> None:
        """Writes the call as an .npz file: the values of what it reads, the layout of all operands, the constants."""
        layouts: dict[str, Any] = {}
        for label, buffer in self.buffers.items():
            place = (buffer.data_ptr, buffer.shape, buffer.strides, buffer.dtype)
            twins = (other for other in layouts if place == layouts[other]["place"])
            layouts[label] = {
                "place": place,
                "shape": buffer.shape,
                "dtype": BY_CODE[buffer.dtype].name,
                "strides": buffer.strides,
                "offset": buffer.data_ptr % CACHE_LINE,
                "same_as": next(twins, None),
            }
        for layout in layouts.values():
            del layout["place"]
        lists = {name: len(v) for name, v in self.arguments.items() if isinstance(v, (list, tuple))}
        constants = {name: v.item() if isinstance(v, np.generic) else v for name, v in self.constants().items()}
        call = {"kernel": self.facts.name, "constants": constants, "lists": lists, "operands": layouts}
        np.savez(file, call=np.array(json.dumps(call)), **{label: self.before[label] for label in self.read})  # type: ignore[arg-type]


def load(path: str) -> tuple[str, dict[str, Any]]:
    """The kernel and the arguments of a saved call, in memory of their own laid out as it was.

    ValueError for another kind of file.
    """
    try:
        with np.load(path, allow_pickle=False) as saved:
            call = json.loads(str(saved["call"]))
            buffers: dict[str, Any] = {}
            for label, layout in call["operands"].items():
                if layout["same_as"] is not None:
                    buffers[label] = buffers[layout["same_as"]]
                    continue
                array = _laid(layout)
                if label in saved:
                    array[...] = saved[label]
                buffers[label] = from_array(array)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"[replay] expected a file that a CheckError names, got {path}: {error}") from error
    lists = {name: [buffers.pop(f"{name}[{i}]") for i in range(count)] for name, count in call["lists"].items()}
    return call["kernel"], {**call["constants"], **lists, **buffers}


def _by_value(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _operands(facts: Facts, arguments: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(label, name, buffer) of every tensor."""
    for name in facts.operands:
        value = arguments[name]
        if isinstance(value, (list, tuple)):
            for i, buffer in enumerate(value):
                yield f"{name}[{i}]", name, buffer
        elif not _by_value(value):
            yield name, name, value


def _laid(layout: dict[str, Any]) -> np.ndarray:
    """New memory of a shape, type and strides, its first element as far from a cache line's start as it was."""
    dtype = np.dtype(layout["dtype"])
    strides = [s * dtype.itemsize for s in layout["strides"]]
    reach = [max(n - 1, 0) * s for n, s in zip(layout["shape"], strides)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    memory = np.zeros(high - low + dtype.itemsize + 2 * CACHE_LINE, np.uint8)
    first = -low + (layout["offset"] + low - memory.ctypes.data) % CACHE_LINE
    return np.ndarray(layout["shape"], dtype, memory.data, first, strides)
