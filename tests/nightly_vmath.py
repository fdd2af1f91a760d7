#!/usr/bin/env python3
"""Measures the element-wise functions of the native backend against tests/ulp.py and fails where a bound is missed.

float32: all 2^32 inputs of each function, pow on 2^27 pairs; float64: 10^7 inputs of all kinds. On two cores one or two
hours. `--step 1001` looks at every 1001st float32 input only; names given as arguments limit the functions.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

os.environ["FASTBP_NUM_THREADS"] = "1"  # one process a core instead

import numpy as np
import ulp

from fastbp import _native

BLOCK = 1 << 16
TASK = 1 << 26


def measure(task: tuple[str, str, int, int, int]) -> tuple[str, str, ulp.Worst]:
    """The worst of one part: the float32 numbers with bits `start` to `stop`, else samples seeded by `start`."""
    name, dtype, start, stop, step = task
    worst = ulp.Worst(0.0, 0.0)
    for begin in range(start, stop, BLOCK * step):
        end = min(begin + BLOCK * step, stop)
        if name == "pow":
            base, exponent = ulp.pow_samples(dtype, BLOCK, seed=begin)
            errors = ulp.pow_errors(ulp.native_pow(base, exponent), base, exponent)
            block = ulp.Worst(float(errors.max()), float(base[errors.argmax()]))
        else:
            x = ulp.samples(dtype, BLOCK, seed=begin) if dtype == "float64" else ulp.all_float32(begin, end)[::step]
            block = ulp.max_ulp(name, ulp.native_unary(name), np.ascontiguousarray(x))
        worst = max(worst, block)
    return name, dtype, worst


def tasks(names: list[str], step: int) -> Iterator[tuple[str, str, int, int, int]]:
    for name in names:
        inputs = 1 << (27 if name == "pow" else 32)
        for start in range(0, inputs, TASK):
            yield name, "float32", start, start + TASK, step
        if ulp.HAS_WIDE:
            for start in range(0, 10**7 // step, 1 << 20):
                yield name, "float64", start, min(start + (1 << 20), 10**7 // step), 1


def odd_functions_keep_the_sign_of_zero() -> bool:
    zeros = np.array([-0.0])
    return all(np.signbit(ulp.native_unary(name)(zeros))[0] for name in ("expm1", "log1p", "sin", "tanh", "erf"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*ulp.FUNCTIONS, "pow"])
    parser.add_argument("--step", type=int, default=1)
    options = parser.parse_args()

    print(f"instruction set {_native.isa()}, numpy {np.__version__}")
    failed = not odd_functions_keep_the_sign_of_zero()
    if failed:
        print("an odd function loses the sign of −0")
    for name in set(options.names) & set(ulp.FUNCTIONS):
        for dtype in (np.float32, np.float64) if ulp.HAS_WIDE else (np.float32,):
            own = ulp.against_mpmath(name, ulp.samples(dtype, 200))
            if own.ulp > 0.05:
                failed = True
                print(f"the reference of {name} itself is {own.ulp:.3f} ULP off at x = {own.x!r}")

    worst: dict[tuple[str, str], ulp.Worst] = {}
    print(f"{'function':12} {'type':8} {'bound':>6} {'worst':>8}  at")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        waiting = list(tasks(options.names, options.step))
        left = {key: sum(task[:2] == key for task in waiting) for key in dict.fromkeys(task[:2] for task in waiting)}
        for name, dtype, found in pool.map(measure, waiting):
            key = name, dtype
            worst[key] = max(worst.get(key, found), found)
            left[key] -= 1
            if not left[key]:
                bound = ulp.bound(name, dtype)
                missed = not worst[key].ulp <= bound
                failed |= missed
                note = "   MISSED" if missed else ""
                print(f"{name:12} {dtype:8} {bound:6.1f} {worst[key].ulp:8.4f}  {worst[key].x!r}{note}", flush=True)
    print("failed" if failed else "all within their bounds")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
