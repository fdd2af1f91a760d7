"""Panels of weights that persist between products: the same bits as without, and never those of older weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from settings import native_settings_kept

import fastbp
from fastbp import _native
from fastbp.kernels import native
from fastbp.kernels.storage import Buffer, empty, from_array

# (m, n, k): few rows and many, edges of strips and of the 512 terms of a chain.
SHAPES = [(4, 1, 1), (5, 17, 9), (33, 16, 511), (7, 100, 513), (64, 31, 1100)]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with native_settings_kept():
        _native.set_work_gate(0)
        yield


def own(values: np.ndarray) -> Buffer:
    """A buffer with the values whose memory nobody else can write to: only such weights get panels."""
    buffer = empty(values.shape, 1 if values.dtype == np.float64 else 0)
    native.copy(from_array(values), buffer)
    return buffer


def products(x: Buffer, w: Buffer, dy: Buffer) -> tuple[np.ndarray, np.ndarray]:
    y, dx = (np.full(s, np.nan, np.asarray(x).dtype) for s in ((x.shape[0], w.shape[0]), x.shape))
    native.linear_forward(x, w, None, None, 0.0, None, from_array(y))
    native.linear_backward_input(dy, w, None, 0.0, None, from_array(dx))
    return y, dx


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_bits_are_those_of_a_product_without_panels(shape: tuple[int, int, int], dtype: type) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    x, w, dy = (rng.normal(size=s).astype(dtype) for s in ((m, k), (n, k), (m, n)))
    expected = products(from_array(x), from_array(w), from_array(dy))  # shared memory: never in panels
    for isa, threads in itertools.product(_native.available_isas(), (1, 2, 3)):
        _native.set_isa(isa)
        _native.set_threads(threads)
        weights = own(w)
        for _ in range(3):  # without panels, making them, with those that persist
            for want, got in zip(expected, products(own(x), weights, own(dy))):
                np.testing.assert_array_equal(want, got)


def zero(w: fastbp.Tensor) -> None:
    with fastbp.no_grad():
        w.zero_()


def assign_a_row(w: fastbp.Tensor) -> None:
    with fastbp.no_grad():
        w[1] = 7.0


def write_through_a_view(w: fastbp.Tensor) -> None:
    with fastbp.no_grad():
        w.reshape(-1)[3:9].fill_(2.0)


def write_through_numpy(w: fastbp.Tensor) -> None:
    w.detach().numpy()[:] = 0.5


def step(w: fastbp.Tensor) -> None:
    w.grad = fastbp.ones(w.shape)
    fastbp.optim.Adam([w], lr=0.1).step()


def write_by_the_reference(w: fastbp.Tensor) -> None:
    with fastbp.no_grad(), fastbp.backend("reference"):
        w.mul_(2.0)


@pytest.mark.parametrize(
    "change", [zero, assign_a_row, write_through_a_view, write_through_numpy, step, write_by_the_reference]
)
def test_a_write_to_the_weights_is_never_missed(change: Callable[[fastbp.Tensor], None]) -> None:
    fastbp.manual_seed(0)
    x, w = fastbp.randn(8, 24), fastbp.nn.Parameter(fastbp.randn(16, 24))
    functional = fastbp.nn.functional

    def outputs() -> list[np.ndarray]:
        input = x.detach().requires_grad_()
        y = functional.linear(input, w)
        y.sum().backward()
        return [y.detach().numpy(), input.grad.numpy()]

    for _ in range(3):
        before = outputs()
    change(w)
    after = [outputs() for _ in range(3)]
    with fastbp.backend("reference"):  # last: it looks at the weights through NumPy, and they lose their panels
        expected = outputs()
    for results in after:
        for want, got, old in zip(expected, results, before):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
            assert not np.allclose(got, old)


def test_memory_that_was_handed_out_stays_without_panels() -> None:
    fastbp.manual_seed(0)
    x, w = fastbp.randn(8, 24), fastbp.randn(16, 24)
    array = w.numpy()
    for value in (1.0, 2.0, 3.0):
        for _ in range(3):
            y = fastbp.nn.functional.linear(x, w)
        array[:] = value
        y = fastbp.nn.functional.linear(x, w)
        np.testing.assert_allclose(y.numpy()[:, 0], x.numpy().sum(1) * value, rtol=1e-4, atol=1e-4)
