"""Indexing, read and written, agrees with NumPy's; only negative steps are refused, as PyTorch refuses them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastbp

REFUSED = (ValueError, TypeError, IndexError, RuntimeError)

# Reproducible, never timed; the backend fixture holds for all examples of a run, which is what is meant.
properties = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def counted(*shape):
    """0, 1, 2, … in the shape, as a tensor and as an array that share nothing."""
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return fastbp.tensor(array), array


MASK = np.array([[True, False, True], [False, False, True]])
INDICES = [
    np.s_[0],
    np.s_[-1],
    np.s_[1, 2],
    np.s_[0, -1, 3],
    np.s_[:],
    np.s_[1:],
    np.s_[:, 1:3],
    np.s_[:, ::2, 1::2],
    np.s_[:, 5:],
    np.s_[:, :-1],
    np.s_[...],
    np.s_[..., 0],
    np.s_[1, ..., 1:],
    np.s_[None],
    np.s_[:, None, 1],
    np.s_[..., None],
    np.s_[()],
    np.s_[[1, 0, 1]],
    np.s_[:, [2, 0]],
    np.s_[:, :, [3, -1]],
    np.s_[[0, 1], [2, 0]],
    np.s_[[[0, 1], [1, 1]], [2, 0]],
    np.s_[0, [1, 2]],
    np.s_[:, [0, 2], 1:3],
    np.s_[[0, 1], :, [3, 1]],
    np.s_[np.array([1, 1, 0])],
    np.s_[MASK],
    np.s_[MASK, 1],
    np.s_[:, np.array([True, False, True])],
    np.s_[np.zeros((2, 3, 4), dtype=bool)],
    np.s_[[]],
]


def torch_index(index):
    """Index arrays as tensors; lists, slices and numbers as they are."""
    if isinstance(index, tuple):
        return tuple(torch_index(part) for part in index)
    return fastbp.from_numpy(index) if isinstance(index, np.ndarray) else index


def numpy_index(index):
    """NumPy reads an empty list as floats."""
    return np.array([], dtype=np.int64) if isinstance(index, list) and not index else index


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_reading_by_index_agrees_with_numpy(index):
    t, array = counted(2, 3, 4)
    result = t[torch_index(index)]
    np.testing.assert_array_equal(result.numpy(), array[numpy_index(index)])
    assert tuple(result.shape) == array[numpy_index(index)].shape


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_writing_by_index_agrees_with_numpy(index):
    t, array = counted(2, 3, 4)
    t[torch_index(index)] = -1.0
    array[numpy_index(index)] = -1.0
    np.testing.assert_array_equal(t.numpy(), array)
    value = np.arange(array[numpy_index(index)].size, dtype=np.float32).reshape(array[numpy_index(index)].shape)
    if len(set(np.arange(24).reshape(2, 3, 4)[numpy_index(index)].reshape(-1).tolist())) == value.size:
        t[torch_index(index)] = fastbp.from_numpy(value)  # with duplicates the last writer is not defined
        array[numpy_index(index)] = value
        np.testing.assert_array_equal(t.numpy(), array)


def test_writing_broadcasts_and_casts_the_value():
    t, array = counted(2, 3, 4)
    t[:, 1] = fastbp.tensor([1, 2, 3, 4])
    array[:, 1] = [1, 2, 3, 4]
    t[0] = t[1]
    array[0] = array[1]
    t[t > 20] = 0
    array[array > 20] = 0
    np.testing.assert_array_equal(t.numpy(), array)


@properties
@given(data=st.data())
def test_basic_indexing_agrees_with_numpy(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    parts = index if isinstance(index, tuple) else (index,)
    t, array = counted(*shape)
    if any(isinstance(part, slice) and (part.step or 1) < 0 for part in parts):
        with pytest.raises(ValueError, match="step"):
            t[index]
    else:
        np.testing.assert_array_equal(t[index].numpy(), array[index])


@properties
@given(data=st.data())
def test_integer_array_indexing_agrees_with_numpy(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    t, array = counted(*shape)
    np.testing.assert_array_equal(t[torch_index(tuple(part.astype(np.int64) for part in index))].numpy(), array[index])


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_the_gradient_of_an_index_lands_where_it_was_read(index):
    array = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    t = fastbp.tensor(array, requires_grad=True)
    picked = t[torch_index(index)]
    upstream = np.arange(1.0, array[numpy_index(index)].size + 1).reshape(picked.shape)
    picked.backward(fastbp.from_numpy(upstream))
    expected = np.zeros_like(array)
    np.add.at(expected, numpy_index(index), upstream)  # an element read twice gets both gradients
    np.testing.assert_array_equal(t.grad.numpy(), expected)


@pytest.mark.parametrize(
    "index",
    [
        np.s_[2],
        np.s_[-3],
        np.s_[0, 3],
        np.s_[0, 0, 0, 0],
        np.s_[np.array([0, 2])],
        np.s_[:, [-4]],
        np.s_[::-1],
        np.s_[0.5],
        np.s_["a"],
        np.s_[np.array([True, False, True])],
        np.s_[[0, 1], [0, 1, 2]],
    ],
    ids=str,
)
def test_an_index_that_does_not_fit_is_refused(index):
    t, array = counted(2, 3, 4)
    with pytest.raises(REFUSED) as reading:
        t[torch_index(index)]
    with pytest.raises(REFUSED):
        t[torch_index(index)] = 0.0
    assert str(reading.value)
    np.testing.assert_array_equal(t.numpy(), array)


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.zeros((2, 2, 4)), np.zeros((2, 2, 3, 4))], ids=lambda v: str(v.shape)
)
def test_a_value_that_does_not_broadcast_is_refused(value):
    t, array = counted(2, 3, 4)
    with pytest.raises(REFUSED):
        t[:] = fastbp.from_numpy(value)
    np.testing.assert_array_equal(t.numpy(), array)
