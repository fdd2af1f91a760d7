"""Starting values: bounds, moments, gains, orthogonality, PyTorch's Linear, bad arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastbp
from fastbp import nn
from fastbp.nn import init

dtypes = pytest.mark.parametrize("dtype", [fastbp.float32, fastbp.float64], ids=["float32", "float64"])


def filled(function, shape=(300, 200), dtype=fastbp.float32, **options):
    """What the function makes of a Parameter; also checks that it returns it, and that nothing is recorded."""
    fastbp.manual_seed(5)
    parameter = nn.Parameter(fastbp.empty(*shape, dtype=dtype))
    assert function(parameter, **options) is parameter
    assert parameter.is_leaf and parameter.requires_grad and parameter.grad is None
    return parameter.detach().numpy()


def assert_uniform(x, bound):
    """Uniform in ±bound: the extremes are near the bound, the mean and the variance within 5 standard errors."""
    assert np.abs(x).max() <= bound
    assert np.abs(x).max() > 0.99 * bound
    assert abs(x.mean()) < 5 * bound / math.sqrt(3 * x.size)
    assert x.var() == pytest.approx(bound**2 / 3, rel=0.03)


def assert_normal(x, std):
    assert abs(x.mean()) < 5 * std / math.sqrt(x.size)
    assert x.std() == pytest.approx(std, rel=0.02)
    assert np.abs(x).max() > 3.5 * std


@dtypes
def test_uniform_and_normal(dtype):
    x = filled(init.uniform_, a=-1.0, b=3.0, dtype=dtype)
    assert_uniform(x - 1, 2.0)
    assert x.dtype == dtype.dtype
    assert_normal(filled(init.normal_, mean=2.0, std=0.5, dtype=dtype) - 2, 0.5)


@dtypes
def test_constants(dtype):
    assert (filled(init.constant_, val=2.5, dtype=dtype) == 2.5).all()
    assert (filled(init.zeros_, dtype=dtype) == 0).all()
    assert (filled(init.ones_, dtype=dtype) == 1).all()


def test_xavier():
    assert_uniform(filled(init.xavier_uniform_, gain=2.0), 2 * math.sqrt(6 / 500))
    assert_normal(filled(init.xavier_normal_), math.sqrt(2 / 500))


def test_kaiming():
    assert_uniform(filled(init.kaiming_uniform_, a=math.sqrt(5)), 1 / math.sqrt(200))
    assert_uniform(filled(init.kaiming_uniform_, mode="fan_out", nonlinearity="relu"), math.sqrt(6 / 300))
    assert_normal(filled(init.kaiming_normal_, nonlinearity="linear"), 1 / math.sqrt(200))


def test_fans_count_the_receptive_field():
    assert_uniform(filled(init.xavier_uniform_, (40, 30, 5, 5)), math.sqrt(6 / (70 * 25)))


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (4, 3, 3), (1, 1)])
@dtypes
def test_orthogonal(shape, dtype):
    q = filled(init.orthogonal_, shape, dtype, gain=3.0).reshape(shape[0], -1) / 3
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-6 if dtype is fastbp.float32 else 1e-14)


def test_the_seed_fixes_the_values():
    assert np.array_equal(filled(init.orthogonal_, (5, 3)), filled(init.orthogonal_, (5, 3)))
    fastbp.manual_seed(1)
    a = nn.Linear(7, 5)
    fastbp.manual_seed(1)
    b, c = nn.Linear(7, 5), nn.Linear(7, 5)
    assert np.array_equal(a.weight.detach().numpy(), b.weight.detach().numpy())
    assert not np.array_equal(b.weight.detach().numpy(), c.weight.detach().numpy())


def test_linear_starts_as_pytorchs():
    """Weight and bias uniform in ±1/√in_features."""
    fastbp.manual_seed(3)
    layer = nn.Linear(400, 600)
    assert_uniform(layer.weight.detach().numpy(), 1 / 20)
    wide = nn.Linear(4, 20000)
    assert_uniform(wide.bias.detach().numpy(), 1 / 2)


def test_gains_equal_pytorchs():
    torch = pytest.importorskip("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


def test_bad_arguments_are_named():
    vector = nn.Parameter(fastbp.zeros(3))
    matrix = nn.Parameter(fastbp.zeros(3, 3))
    with pytest.raises(
        ValueError, match=r"\[xavier_uniform_\] expected a tensor with at least 2 dimensions, got shape \(3,\)"
    ):
        init.xavier_uniform_(vector)
    with pytest.raises(ValueError, match=r"\[kaiming_normal_\] expected mode 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal_(matrix, mode="fan")
    with pytest.raises(ValueError, match=r"\[calculate_gain\] expected nonlinearity to be one of .*, got 'swish'"):
        init.kaiming_uniform_(matrix, nonlinearity="swish")
    with pytest.raises(ValueError, match=r"\[orthogonal_\]"):
        init.orthogonal_(vector)
    with pytest.raises(ValueError, match=r"\[uniform_\] expected a <= b"):
        init.uniform_(matrix, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"\[normal_\] expected std >= 0"):
        init.normal_(matrix, std=-1.0)
