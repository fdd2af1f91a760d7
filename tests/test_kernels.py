"""Every kernel against its reference: every case × type × instruction set × threads; then equal bits everywhere."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import TABLE, Case
from kernel_call import FACTS, Call, describe
from memory import GUARDED, aligned, misaligned
from settings import native_settings_kept

from fastbp import _native
from fastbp.kernels import reference, tolerance

ISAS = tuple(_native.available_isas())
CASES = [pytest.param(c, t, id=f"{c.name}-{t}") for c in TABLE for t in c.dtypes]
CASES_ISAS = [pytest.param(c, t, isa, id=f"{c.name}-{t}-{isa}") for c in TABLE for t in c.dtypes for isa in ISAS]
# Numbers of threads, places of operands, and whether outputs go past the caches. Reading or writing a byte outside of a
# guarded operand ends the process.
PLACES = (
    *((1, place, streamed) for place in GUARDED for streamed in (False, True)),
    (1, aligned, True),
    (1, misaligned, True),
    (2, misaligned, False),
    (3, aligned, True),
)
SMALL = 1000  # elements; with fewer, starting threads is most of a call: these run on one, and once on three
# What the extension has besides kernels.
NOT_KERNELS = {
    "Buffer", "Mode", "Program", "RecordingError", "Selected", "Step", "available_isas", "copy_loop", "empty",
    "empty_broadcast", "empty_panels", "find_slots", "fma_loop", "from_array", "from_dlpack", "isa", "observe_calls",
    "panel_width", "record_into", "set_isa", "set_native_backend", "set_stream_gate", "set_threads", "set_work_gate",
    "stream_gate", "thread_reason", "threads", "work_gate",
}  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with native_settings_kept():
        yield


@functools.lru_cache(maxsize=2)
def expectations(case: Case, dtype: str) -> list[tuple[list[Any], dict[str, Any], dict[str, np.ndarray]]]:
    """The argument lists of a case, each by name as before the call, and the results of the reference."""
    names = FACTS[case.kernel].parameters
    return [(v, dict(zip(names, v)), Call(case, dtype, v).run(reference)) for v in case.variants(dtype)]


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize(("case", "dtype", "isa"), CASES_ISAS)
def test_kernel_agrees_with_reference(case: Case, dtype: str, isa: str) -> None:
    _native.set_isa(isa)
    _native.set_work_gate(0)
    for threads, place, streamed in PLACES:
        _native.set_threads(threads)
        _native.set_stream_gate(0 if streamed else 2**62)
        for values, named, expected in expectations(case, dtype):
            call = Call(case, dtype, values, place)
            if threads > 1 and call.elements() < SMALL:
                continue
            where = f"{describe(values)} on {isa}, {threads} threads, {place.__name__}, streamed {streamed}"
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
