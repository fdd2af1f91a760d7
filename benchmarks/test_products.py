"""Products of linear layers as a fraction of the FMA peak, and beside PyTorch's and JAX's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import engines
import numpy as np
import pytest

from fastbp.bench import cases
from fastbp.bench.machine import fma_peak
from fastbp.bench.timing import Timing, fraction, ratio, seconds


@pytest.mark.parametrize("shape", cases.SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("kind", cases.PRODUCTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_product(
    record: Callable[..., None],
    timing: Timing,
    threads: int,
    limit: float,
    dtype: str,
    kind: str,
    shape: tuple[int, int, int],
) -> None:
    if 2 * math.prod(shape) > limit:
        pytest.skip("too large for --quick")
    call = cases.product(kind, shape, dtype).verify()
    others, absent = engines.present(
        {name: functools.partial(make, kind, call.named) for name, make in engines.PRODUCTS.items()}
    )
    ours = call.outputs()
    for name, run in others.items():
        for got, expected in zip(run(), ours, strict=True):
            np.testing.assert_allclose(
                np.asarray(got), expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name
            )

    peak = fma_peak(dtype)
    times = timing.alternate({"peak": peak.call, "fastbp": call.run, **others})
    reached = fraction(times["fastbp"], call.operations, [(times["peak"], peak.work)])
    ratios = {name: ratio(times[name], times["fastbp"]) for name in others}
    name = f"{kind} {'x'.join(map(str, shape))} {dtype}"
    line = f"{name}, {threads} threads: {reached:.3f} of the peak" + "".join(
        f", {other} {value:.2f} times as long" for other, value in ratios.items()
    )
    record(
        "products", line, call.run,
        kind=kind, shape=shape, dtype=dtype, threads=threads, seconds=seconds(times["fastbp"]),
        operations=call.operations, fraction=reached, ratios=ratios, absent=absent,
    )  # fmt: skip
