"""Vector math stays within its bounds in units in the last place: on samples here, on all inputs in nightly_vmath.py."""

from __future__ import annotations

import numpy as np
import pytest
import ulp
from nightly_vmath import evaluate, odd_functions_keep_the_sign_of_zero, run_pow

SAMPLES = 1 << 15  # of every exponent, and around the points where a function changes its formula


def needs_a_wider_type(dtype: str) -> None:
    if dtype == "float64" and not ulp.HAS_WIDE:
        pytest.skip("longdouble is no wider than float64 here")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ulp.FUNCTIONS)
def test_function_is_within_its_bound(name: str, dtype: str) -> None:
    needs_a_wider_type(dtype)
    worst = ulp.max_ulp(name, evaluate(name), ulp.samples(dtype, SAMPLES))
    assert worst.ulp <= ulp.bound(name, dtype), worst


def test_every_stride_of_float32_is_within_the_bound() -> None:
    x = stride()
    for name in ulp.FUNCTIONS:
        worst = ulp.max_ulp(name, evaluate(name), x)
        assert worst.ulp <= ulp.bound(name, "float32"), (name, worst)


def stride() -> np.ndarray:
    """Every 131,073rd float32: 32,768 numbers of all exponents and both signs."""
    return np.arange(0, 1 << 32, (1 << 17) + 1, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pow_is_within_its_bound(dtype: str) -> None:
    needs_a_wider_type(dtype)
    base, exponent = ulp.pow_samples(dtype, SAMPLES)
    assert ulp.pow_errors(run_pow(base, exponent), base, exponent).max() <= ulp.POW_BOUND


def test_odd_functions_keep_the_sign_of_zero() -> None:
    assert odd_functions_keep_the_sign_of_zero()
