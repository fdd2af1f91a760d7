"""The element-wise functions keep their bounds in ULP and C99's special values on every instruction set.

tests/nightly_vmath.py measures the same on all 2^32 float32 inputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import ulp

from fastbp import _native

DTYPES = [np.float32, np.float64] if ulp.HAS_WIDE else [np.float32]
GATED = ("gelu", "gelu_tanh", "silu", "mish")
INF, NAN = math.inf, math.nan


@pytest.fixture(params=_native.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.isa()
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ulp.FUNCTIONS)
def test_errors_stay_within_the_bound(isa: str, name: str, dtype: type) -> None:
    worst = ulp.max_ulp(name, ulp.native_unary(name), ulp.samples(dtype, 20_000))
    assert worst.ulp <= ulp.bound(name, dtype), worst


@pytest.mark.parametrize("dtype", DTYPES)
def test_errors_of_pow_stay_within_the_bound(isa: str, dtype: type) -> None:
    base, exponent = ulp.pow_samples(dtype, 20_000)
    assert ulp.pow_errors(ulp.native_pow(base, exponent), base, exponent).max() <= ulp.POW_BOUND


@pytest.mark.parametrize("name", ulp.FUNCTIONS)
def test_a_lane_does_not_depend_on_its_neighbours(isa: str, name: str) -> None:
    x = ulp.samples(np.float32, 2000)
    apart = np.concatenate([ulp.native_unary(name)(np.full(1, value)) for value in x])
    np.testing.assert_array_equal(ulp.native_unary(name)(x), apart)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "x", "y"), [
    ("exp", -INF, 0.0), ("exp", INF, INF), ("exp", -0.0, 1.0), ("exp", 1e4, INF), ("exp", -1e4, 0.0),
    ("expm1", -INF, -1.0), ("expm1", INF, INF), ("expm1", -0.0, -0.0),
    ("log", 0.0, -INF), ("log", -0.0, -INF), ("log", -1.0, NAN), ("log", INF, INF), ("log", 1.0, 0.0),
    ("log1p", -1.0, -INF), ("log1p", -1.5, NAN), ("log1p", -INF, NAN), ("log1p", INF, INF), ("log1p", -0.0, -0.0),
    ("sin", -0.0, -0.0), ("sin", INF, NAN), ("cos", -INF, NAN), ("cos", -0.0, 1.0),
    ("tanh", -0.0, -0.0), ("tanh", INF, 1.0), ("tanh", -INF, -1.0),
    ("erf", -0.0, -0.0), ("erf", INF, 1.0), ("erf", -INF, -1.0),
    ("sigmoid", -INF, 0.0), ("sigmoid", INF, 1.0), ("sigmoid", -0.0, 0.5),
    ("softplus", -INF, 0.0), ("softplus", INF, INF),
    *((name, x, y) for name in GATED for x, y in ((-INF, 0.0), (INF, INF), (0.0, 0.0))),
    *((name, NAN, NAN) for name in ulp.FUNCTIONS),
])  # fmt: skip
def test_special_values(isa: str, name: str, x: float, y: float, dtype: type) -> None:
    found = float(ulp.native_unary(name)(np.full(3, x, dtype))[1])
    assert found == y or (math.isnan(found) and math.isnan(y))
    if name not in GATED and not math.isnan(y):
        assert math.copysign(1, found) == math.copysign(1, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_has_the_special_values_of_c99(isa: str, dtype: type) -> None:
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 2.0**23 + 1, 2.0**24, 2.0**52 + 1, 2.0**53, INF, NAN]
    pairs = np.array(list(itertools.product([*values, *(-v for v in values)], repeat=2)), dtype)
    base, exponent = np.ascontiguousarray(pairs.T)
    with np.errstate(all="ignore"):
        expected = np.power(base.astype(np.float64), exponent.astype(np.float64)).astype(dtype)
    found = ulp.native_pow(base, exponent)
    np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps, atol=0)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ulp.FUNCTIONS)
def test_the_references_agree_with_mpmath(name: str, dtype: type) -> None:
    assert ulp.against_mpmath(name, ulp.samples(dtype, 60)).ulp < 0.05
