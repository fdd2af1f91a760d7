"""Matrix products as a fraction of the FMA peak that the same process reaches; each verified first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from measure import alternate, fma_peak

from fastbp import _native
from fastbp.kernels import native

SHAPES = [(1024, 1024, 1024), (64, 784, 128), (128, 784, 512), (128, 512, 512), (4096, 100, 256)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("kind", ["forward", "backward_input", "backward_weight"])
def test_product(benchmark: Any, kind: str, shape: tuple[int, int, int], dtype: str) -> None:
    m, k, n = shape
    generator = np.random.default_rng(0)
    x, w, b, dy = (generator.standard_normal(s).astype(dtype) for s in ((m, k), (n, k), (n,), (m, n)))
    y, dx, dw, db = (np.full(s, np.nan, dtype) for s in ((m, n), (m, k), (n, k), (n,)))  # poisoned
    buffers = {name: _native.from_array(a) for name, a in
               {"x": x, "w": w, "b": b, "dy": dy, "y": y, "dx": dx, "dw": dw, "db": db}.items()}  # fmt: skip
    v = buffers
    run, got, want, terms = {
        "forward": (lambda: native.linear_forward(v["x"], v["w"], v["b"], None, 0.0, None, v["y"]), y, x @ w.T + b, k),
        "backward_input": (
            lambda: native.linear_backward_input(v["dy"], v["w"], None, 0.0, None, v["dx"]),
            dx,
            dy @ w,
            n,
        ),
        "backward_weight": (
            lambda: native.linear_backward_weight(v["dy"], v["x"], False, v["dw"], v["db"]),
            dw,
            dy.T @ x,
            m,
        ),
    }[kind]
    run()
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(dtype).eps * np.sqrt(terms) * 8)

    peak = fma_peak(dtype)
    medians = alternate({"kernel": run, "peak": peak})
    reached = 2 * m * n * k / medians["kernel"]
    fraction = reached / (peak() / medians["peak"])
    benchmark.extra_info["fraction of the FMA peak"] = fraction
    benchmark.extra_info["GFLOP/s"] = reached / 1e9
    benchmark.pedantic(run, rounds=20, warmup_rounds=2)
    print(f"\n{kind} {m}x{k}x{n} {dtype}: {reached / 1e9:.1f} GFLOP/s, {fraction:.3f} of the peak")
