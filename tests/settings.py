"""The native backend's settings, which hold for the whole process, changed for a while only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import fastbp
from fastbp import _native


@contextmanager
def native_settings_kept() -> Iterator[None]:
    """Instruction set, threads and gates are afterwards as they were before."""
    isa, threads, work, stream = _native.isa(), _native.threads(), _native.work_gate(), _native.stream_gate()
    try:
        yield
    finally:
        _native.set_isa(isa)
        _native.set_threads(threads)
        _native.set_work_gate(work)
        _native.set_stream_gate(stream)


def numbers_of_threads(*counts: int) -> Any:
    """A fixture that sets the native backend's number of threads: to each of these in turn."""

    @pytest.fixture(params=counts)
    def threads(request: pytest.FixtureRequest) -> Iterator[int]:
        with native_settings_kept():
            fastbp.set_num_threads(request.param)
            yield request.param

    return threads
