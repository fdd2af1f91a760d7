"""Every kernel against its reference: every case × type × instruction set × threads; then equal bits everywhere."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import TABLE, Case, Out
from memory import CAN_GUARD, GuardedMemory, Operand
from settings import native_settings_kept

from fastbp import _native
from fastbp.kernels import facts, reference, tolerance

ISAS = tuple(_native.available_isas())
FACTS = {name: f.facts for name, f in facts.kernels(reference).items()}
CASES = [pytest.param(c, t, id=f"{c.name}-{t}") for c in TABLE for t in c.dtypes]
CASES_ISAS = [pytest.param(c, t, isa, id=f"{c.name}-{t}-{isa}") for c in TABLE for t in c.dtypes for isa in ISAS]
SMALL = 1000  # elements; with fewer, starting threads is most of a call: these run on one, and once on three
# What the extension has besides kernels.
NOT_KERNELS = {
    "Buffer", "empty", "from_array", "from_dlpack", "isa", "set_isa", "available_isas", "threads", "set_threads",
    "thread_reason", "work_gate", "set_work_gate", "fma_loop", "copy_loop",
}  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with native_settings_kept():
        yield


# ---------------------------------------------------------------- one call


def model(value: Out | np.ndarray, dtype: str) -> np.ndarray:
    """An array with the layout that an operand is to have."""
    return value if isinstance(value, np.ndarray) else value.layout(dtype)


class Call:
    """A call of a kernel that can be repeated: each operand in memory of its own, the inputs read-only."""

    def __init__(self, case: Case, dtype: str, values: list[Any], offset: int = 0) -> None:
        self.facts = FACTS[case.kernel]
        self.read: dict[str, Operand] = {}
        self.written: dict[str, tuple[Operand, Any]] = {}  # with the values they start from
        self.arguments: list[Any] = []
        for name, value in zip(self.facts.parameters, values, strict=True):
            if isinstance(value, list):
                self.arguments.append([self.place(f"{name}[{i}]", name, v, dtype, offset) for i, v in enumerate(value)])
            elif isinstance(value, (np.ndarray, Out)):
                self.arguments.append(self.place(name, name, value, dtype, offset))
            else:
                self.arguments.append(value)

    def place(self, label: str, name: str, value: Any, dtype: str, offset: int) -> np.ndarray:
        operand = Operand(model(value, dtype), offset)
        if name in self.facts.inputs:
            operand.fill(value)
            operand.array.flags.writeable = False
            self.read[label] = operand
        else:
            self.written[label] = operand, None if isinstance(value, Out) else value
        return operand.array

    def elements(self) -> int:
        """Elements of the largest operand."""
        operands = [*self.read.values(), *(operand for operand, _ in self.written.values())]
        return max((operand.array.size for operand in operands), default=0)

    def run(self, backend: ModuleType) -> dict[str, np.ndarray]:
        """The written operands after a call that starts from their first values, or from poison."""
        for operand, start in self.written.values():
            operand.fill(start)
        getattr(backend, self.facts.name)(*(as_buffers(a) for a in self.arguments))
        return {label: operand.array for label, (operand, _) in self.written.items()}

    def strayed(self) -> list[str]:
        """Inputs that were changed, and outputs around which memory was changed."""
        changed = [label for label, operand in self.read.items() if not operand.untouched()]
        return changed + [label for label, (operand, _) in self.written.items() if not operand.margin_untouched()]


def as_buffers(value: Any) -> Any:
    if isinstance(value, list):
        return [_native.from_array(v) for v in value]
    return _native.from_array(value) if isinstance(value, np.ndarray) else value


@functools.lru_cache(maxsize=2)
def expectations(case: Case, dtype: str) -> list[tuple[list[Any], dict[str, Any], dict[str, np.ndarray]]]:
    """The argument lists of a case, each by name as before the call, and the results of the reference."""
    names = FACTS[case.kernel].parameters
    return [(v, dict(zip(names, v)), Call(case, dtype, v).run(reference)) for v in case.variants(dtype)]


def describe(values: list[Any]) -> str:
    """Shapes and constants of a call, for messages."""
    return ", ".join(
        f"{len(v)} tensors" if isinstance(v, list) else str(v.shape) if isinstance(v, (np.ndarray, Out)) else repr(v)
        for v in values
    )


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize(("case", "dtype", "isa"), CASES_ISAS)
def test_kernel_agrees_with_reference(case: Case, dtype: str, isa: str) -> None:
    _native.set_isa(isa)
    _native.set_work_gate(0)
    for threads, offset in ((1, 0), (1, 1), (2, 1), (3, 0)):
        _native.set_threads(threads)
        for values, named, expected in expectations(case, dtype):
            call = Call(case, dtype, values, offset)
            if threads > 1 and call.elements() < SMALL:
                continue
            where = f"{describe(values)} on {isa}, {threads} threads, offset {offset}"
            for label, actual in call.run(_native).items():
                wrong = tolerance.difference(case.kernel, label, named, expected[label], actual)
                assert wrong is None, f"{wrong}; {where}"
            assert not call.strayed(), f"{call.strayed()} or the memory around was changed; {where}"


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_bits_do_not_depend_on_instruction_set_and_threads(case: Case, dtype: str) -> None:
    _native.set_work_gate(0)
    _native.set_isa("scalar")
    _native.set_threads(1)
    calls = [Call(case, dtype, values) for values in case.variants(dtype)]
    alone = [{label: array.copy() for label, array in call.run(_native).items()} for call in calls]
    for threads, isa in itertools.product((1, 2, 3, 8), ISAS):
        _native.set_threads(threads)
        _native.set_isa(isa)
        for call, first in zip(calls, alone):
            if call.elements() < SMALL and threads > 1 and (threads, isa) != (3, ISAS[-1]):
                continue
            for label, actual in call.run(_native).items():
                same = tolerance.same(first[label], actual)
                where = f"{describe(call.arguments)} on {isa}, {threads} threads"
                assert np.all(same), f"{label} differs in {np.count_nonzero(~same)} of {same.size}; {where}"


@pytest.mark.skipif(not CAN_GUARD, reason="pages are guarded by mprotect, on Linux")
@pytest.mark.parametrize(("case", "dtype", "isa"), CASES_ISAS)
def test_kernel_stays_inside_its_operands(case: Case, dtype: str, isa: str, guarded: GuardedMemory) -> None:
    """A kernel that reads or writes one byte outside of an operand ends the process here."""
    _native.set_isa(isa)
    _native.set_threads(1)
    kernel = getattr(_native, case.kernel)
    for values in case.variants(dtype):
        for at_end in (True, False):
            guarded.reset()
            kernel(*(as_buffers(guard(guarded, v, dtype, at_end)) for v in values))


@pytest.fixture(scope="module")
def guarded() -> GuardedMemory:
    return GuardedMemory()


def guard(guarded: GuardedMemory, value: Any, dtype: str, at_end: bool) -> Any:
    if isinstance(value, list):
        return [guard(guarded, v, dtype, at_end) for v in value]
    return guarded.place(model(value, dtype), at_end) if isinstance(value, (np.ndarray, Out)) else value


# ---------------------------------------------------------------- completeness


def test_reference_and_native_have_the_same_kernels() -> None:
    native = {n for n in dir(_native) if not n.startswith("_") and callable(getattr(_native, n))} - NOT_KERNELS
    assert native == set(FACTS)


def test_every_kernel_has_a_case_and_every_tolerance_a_kernel() -> None:
    assert {c.kernel for c in TABLE} == set(FACTS)
    assert set(tolerance.RULES) <= set(FACTS)


def test_every_type_of_a_kernel_has_a_case() -> None:
    for name, f in FACTS.items():
        assert {t for c in TABLE if c.kernel == name for t in c.dtypes} == set(f.dtypes), name


def test_unary_kernels_come_in_pairs() -> None:
    for name, f in FACTS.items():
        if f.saved is not None:
            twin = name.replace("_backward", "_forward") if name.endswith("_backward") else f"{name[:-8]}_backward"
            assert FACTS[twin].saved == f.saved, name
            assert FACTS[twin].constants == f.constants, name


def test_every_kernel_is_documented() -> None:
    for name in FACTS:
        assert inspect.getdoc(getattr(reference, name)), name
