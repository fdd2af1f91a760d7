"""Memory-bound kernels as a fraction of the copy bandwidth at the same size and threads, the best of plain and of
streaming stores. Bytes are those that the kernel's facts say it reads and writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastbp.bench.cases import MEMORY_CASES, memory_case
from fastbp.bench.machine import copy_peaks
from fastbp.bench.timing import Timing, fraction, seconds

ELEMENTS = 2**24  # 64 MiB of float32: beyond the caches of most machines


@pytest.mark.parametrize("name", MEMORY_CASES)
def test_bandwidth(record: Callable[..., None], timing: Timing, threads: int, quick: bool, name: str) -> None:
    elements = 2**16 if quick else ELEMENTS
    call = memory_case(name, elements).verify()
    copies = copy_peaks(elements)
    times = timing.alternate({**{copy: peak.call for copy, peak in copies.items()}, "fastbp": call.run})
    reached = fraction(times["fastbp"], call.bytes, [(times[copy], peak.work) for copy, peak in copies.items()])
    taken = seconds(times["fastbp"])
    record(
        "bandwidth", f"{name}, {threads} threads: {reached:.3f} of the copy bandwidth", call.run,
        name=name, threads=threads, elements=elements, bytes=call.bytes, seconds=taken, fraction=reached,
    )  # fmt: skip
