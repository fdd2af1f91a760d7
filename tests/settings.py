"""The native backend's settings, which hold for the whole process, changed for a while only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
