"""The short benchmark of `fastbp bench`: products, memory-bound kernels and two training steps, in about 20 seconds.

Fractions are of the fused multiply-adds, or of the copied bytes, that the machine reaches at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastbp.bench.cases import PRODUCTS, memory_case, product
from fastbp.bench.machine import copy_peaks, fma_peak
from fastbp.bench.timing import Timing, fraction, seconds
from fastbp.bench.workloads import WORKLOADS, compiled_step, eager_step, verify

SHAPES = ((64, 784, 128), (128, 512, 512), (1024, 1024, 1024))
KERNELS = ("relu", "relu backward", "add", "exp", "tanh", "sum", "cross-entropy with gradient", "SGD", "Adam")
ELEMENTS = 2**23  # 32 MiB of float32, of which a kernel has two or more: beyond most caches
STEPS = ("mnist_small", "mnist")
TIMING = Timing(rounds=9, block=0.01, settle=0.002, budget=2.0)

Result = dict[str, Any]  # table, name, seconds, fraction, and the rate that it is a fraction of


def results() -> Iterator[Result]:
    """Verify and measure one thing after the other."""
    peak = fma_peak()
    for shape in SHAPES:
        for kind in PRODUCTS:
            call = product(kind, shape).verify()
            times = TIMING.alternate({"peak": peak.call, "kernel": call.run})
            name = f"{kind} {'x'.join(map(str, shape))}"
            yield _result("products", name, times, call.operations, {"peak": peak})
    copies = copy_peaks(ELEMENTS)
    for name in KERNELS:
        call = memory_case(name, ELEMENTS).verify()
        runs = {**{copy: peak.call for copy, peak in copies.items()}, "kernel": call.run}
        yield _result("bandwidth", name, TIMING.alternate(runs), call.bytes, copies)
    for name in STEPS:
        workload = WORKLOADS[name]
        for make in (compiled_step, eager_step):
            verify(make(workload), workload)
            times = TIMING.alternate({"peak": peak.call, "kernel": make(workload)})
            kind = "compiled" if make is compiled_step else "eager"
            yield _result("steps", f"{name} ({kind})", times, workload.operations, {"peak": peak})


def _result(table: str, name: str, times: dict[str, list[float]], work: int, peaks: dict[str, Any]) -> Result:
    return {
        "table": table,
        "name": name,
        "seconds": seconds(times["kernel"]),
        "work": work,
        "peak": max(peak.work / seconds(times[name]) for name, peak in peaks.items()),
        "fraction": fraction(times["kernel"], work, [(times[name], peak.work) for name, peak in peaks.items()]),
    }


TITLES = {
    "products": ("linear layer, float32 (m×k×n)", "GFLOP/s", "of the FMA peak"),
    "bandwidth": ("kernel on {:.0f} MB", "GB/s", "of the copy bandwidth"),
    "steps": ("training step", "GFLOP/s", "of the FMA peak"),
}


def heading(table: str) -> str:
    what, rate, share = TITLES[table]
    return f"{what.format(4 * ELEMENTS / 1e6):44} {'time':>12} {rate:>10}   {share}"


def line(result: Result) -> str:
    """A row of the printed table."""
    taken = result["seconds"]
    time = f"{taken * 1e6:.1f} µs" if taken < 1e-3 else f"{taken * 1e3:.2f} ms"
    return f"  {result['name']:42} {time:>12} {result['work'] / taken / 1e9:10.1f}   {result['fraction']:.2f}"
