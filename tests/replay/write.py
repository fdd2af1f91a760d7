"""Writes the table of kernel cases as calls with expected bits, for replay.cpp, which states the format.

    python tests/replay/write.py FILE [--dtypes float32,int64] [--kernels 'matmul|linear.*']

What a kernel gets is what its binding hands it, seen by `observe_calls`; expected are the bits of the scalar table on
one thread.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import conftest  # noqa: F401  which package is tested
import numpy as np
from cases import TABLE
from kernel_call import Call, describe
from memory import Operand, extent, lay

from fastbp import _native

DTYPES = ("float32", "float64", "int64", "bool")  # their positions are csrc's codes
ARGS = np.dtype([("p", np.uint64, 12), ("n", np.int64, 40), ("c", np.float64, 6)])  # struct Args of csrc/kernel.h
OFFSETS_AT, TENSORS_AT = 11, 1  # in p: where the tensors of a list start; in n: how many they are, as csrc/copy.h says
POISON = 0xFF
READ, UPDATED, OVERWRITTEN = range(3)
NULL, OPERAND, LIST = range(3)


class Observed:
    """One call as a kernel gets it: pointers as operand and offset, operands with their bytes before and after."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.operands = [*call.read.values(), *(operand for operand, _ in call.written.values())]
        self.places = [(*address(operand), operand) for operand in self.operands]
        self.offsets: list[bytes] = []
        self.seen: list[tuple[Any, ...]] = []

    def __call__(self, list_index: int, index: int, dtype: int, name: str, args: bytes) -> None:
        """The observer: pointers must be followed now, those to lists are gone after the call."""
        self.args = np.frombuffer(args, ARGS)[0].copy()
        self.before = [content(operand) for operand in self.operands]
        self.pointers = [self.pointer(i, int(p)) for i, p in enumerate(self.args["p"])]
        self.args["p"] = 0
        self.seen.append((name, list_index, index, dtype))

    def run(self) -> bool:
        """Makes the call; whether a kernel ran, for one that has nothing to do may not be called."""
        _native.observe_calls(self)
        try:
            self.call.run(_native)
        finally:
            _native.observe_calls(None)
        if len(self.seen) > 1:
            raise RuntimeError(f"[{self.call.facts.name}] expected one kernel to run, got {[s[0] for s in self.seen]}")
        return bool(self.seen)

    def pointer(self, position: int, p: int) -> tuple[int, list[tuple[int, int]]]:
        if p == 0:
            return NULL, []
        tensors = int(self.args["n"][TENSORS_AT])
        if self.call.facts.lists and position == OFFSETS_AT:
            self.offsets.append(ctypes.string_at(p, 8 * (tensors + 1)))
            return OPERAND, [(len(self.operands), 0)]
        place = self.place_of(p)
        if place:
            return OPERAND, [place]
        if self.call.facts.lists:
            places = [self.place_of(int(q)) for q in np.frombuffer(ctypes.string_at(p, 8 * tensors), np.uint64)]
            if all(places):
                return LIST, [place for place in places if place]
        raise RuntimeError(f"[{self.call.facts.name}] expected pointers to operands, got another in p[{position}]")

    def place_of(self, p: int) -> tuple[int, int] | None:
        """The operand that an address is in, and the offset in it."""
        for i, (low, nbytes, _) in enumerate(self.places):
            if low <= p <= low + nbytes:  # at its end where it has no elements
                return i, p - low
        return None

    def write(self, file: BinaryIO, label: str) -> None:
        def numbers(*values: int) -> None:
            file.write(np.array(values, np.int64).tobytes())

        def block(data: bytes) -> None:
            numbers(len(data))
            file.write(data)

        [(name, *place)] = self.seen
        block(label.encode())
        block(name.encode())
        numbers(*place)
        file.write(self.args.tobytes())
        numbers(len(self.operands) + len(self.offsets))
        starts = [None] * len(self.call.read) + [start for _, start in self.call.written.values()]
        for i, (operand, before, start) in enumerate(zip(self.operands, self.before, starts)):
            role = READ if i < len(self.call.read) else OVERWRITTEN if start is None else UPDATED
            numbers(role, DTYPES.index(operand.array.dtype.name), len(before))
            if role != OVERWRITTEN:
                file.write(before)
            if role != READ:
                file.write(content(operand, POISON if role == OVERWRITTEN else None))
        for offsets in self.offsets:
            numbers(READ, DTYPES.index("int64"), len(offsets))
            file.write(offsets)
        for form, references in self.pointers:
            numbers(form, len(references), *(number for reference in references for number in reference))


def address(operand: Operand) -> tuple[int, int]:
    """The lowest address of an operand and its bytes."""
    low, nbytes = extent(operand.array)
    return operand.array.__array_interface__["data"][0] - low, nbytes


def content(operand: Operand, between: int | None = None) -> bytes:
    """The bytes of an operand from the lowest to the highest, those between its elements replaced."""
    start, nbytes = address(operand)
    offset = start - operand.memory.__array_interface__["data"][0]
    if between is None:
        return operand.memory[offset : offset + nbytes].tobytes()
    memory = np.full(nbytes, between, np.uint8)
    lay(operand.array, memory, extent(operand.array)[0])[...] = operand.array
    return memory.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="only cases of these types")
    parser.add_argument("--kernels", default=".*", help="only kernels whose whole name this expression matches")
    options = parser.parse_args()
    _native.set_isa("scalar")
    _native.set_threads(1)
    calls = 0
    with options.file.open("wb") as file:
        file.write(b"fastbp replay 1\n" + np.int64(ARGS.itemsize).tobytes())
        for case in TABLE:
            if not re.fullmatch(options.kernels, case.kernel):
                continue
            for dtype in (t for t in case.dtypes if t in options.dtypes.split(",")):
                for values in case.variants(dtype):
                    observed = Observed(Call(case, dtype, values))
                    if observed.run():
                        observed.write(file, f"{case.name}-{dtype} {describe(values)}")
                        calls += 1
    if not calls:
        parser.error(f"no case has a type of {options.dtypes} and a kernel that matches {options.kernels}")
    print(f"{options.file}: {calls} calls, {options.file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
