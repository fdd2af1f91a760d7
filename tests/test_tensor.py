"""Tensor behaves as PyTorch's: creation, types, shapes, in-place changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastbp

DTYPES = [fastbp.float32, fastbp.float64, fastbp.int64, fastbp.bool]
NUMPY_TYPES = [np.float32, np.float64, np.int64, np.bool_]
REFUSED = (ValueError, TypeError, RuntimeError)

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


def counted(*shape, dtype=fastbp.float32):
    """0, 1, 2, … in the shape, as a tensor and as an array that share nothing."""
    array = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    tensor = fastbp.tensor(array, dtype=dtype)
    return tensor, tensor.numpy().copy()


# --- creation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "shape"),
    [
        (1.5, fastbp.float32, ()),
        (3, fastbp.int64, ()),
        (True, fastbp.bool, ()),
        ([1, 2, 3], fastbp.int64, (3,)),
        ([1, 2.5], fastbp.float32, (2,)),
        ([[True, False]], fastbp.bool, (1, 2)),
        ([], fastbp.float32, (0,)),
        ([[], []], fastbp.float32, (2, 0)),
        (np.zeros((2, 3)), fastbp.float64, (2, 3)),
        (np.float32(2), fastbp.float32, ()),
    ],
)
def test_tensor_infers_dtype_and_shape(values, dtype, shape):
    t = fastbp.tensor(values)
    assert t.dtype == dtype
    assert tuple(t.shape) == shape
    assert t.ndim == len(shape)
    assert t.numel() == np.prod(shape, dtype=int)
    np.testing.assert_array_equal(t.numpy(), np.asarray(values))


def test_fills():
    assert fastbp.zeros(2, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert fastbp.ones((2,), dtype=fastbp.int64).tolist() == [1, 1]
    assert fastbp.full((2,), 7.5).tolist() == [7.5, 7.5]
    assert fastbp.eye(2).tolist() == [[1, 0], [0, 1]]
    assert fastbp.empty(4, 0).tolist() == [[], [], [], []]
    assert fastbp.zeros_like(fastbp.ones(3, dtype=fastbp.int64)).dtype == fastbp.int64
    assert fastbp.ones_like(fastbp.zeros(2, 1)).tolist() == [[1], [1]]


def test_arange():
    assert fastbp.arange(4).tolist() == [0, 1, 2, 3]
    assert fastbp.arange(4).dtype == fastbp.int64
    assert fastbp.arange(1, 2, 0.25).tolist() == [1, 1.25, 1.5, 1.75]
    assert fastbp.arange(3, 0, -1).tolist() == [3, 2, 1]
    assert fastbp.arange(2, dtype=fastbp.float64).dtype == fastbp.float64


def test_random_tensors_follow_the_seed():
    fastbp.manual_seed(7)
    first = [fastbp.rand(3).tolist(), fastbp.randn(2, 2).tolist(), fastbp.randperm(9).tolist()]
    fastbp.manual_seed(7)
    second = [fastbp.rand(3).tolist(), fastbp.randn(2, 2).tolist(), fastbp.randperm(9).tolist()]
    assert first == second
    assert sorted(first[2]) == list(range(9))
    assert fastbp.rand(5).tolist() != fastbp.rand(5).tolist()
    draws = fastbp.randint(2, 5, (200,))
    assert draws.dtype == fastbp.int64
    assert set(draws.tolist()) == {2, 3, 4}


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_to_casts_between_all_types(source, target):
    t = fastbp.tensor([0, 1, 2], dtype=source)
    cast = t.to(target)
    assert cast.dtype == target
    numpy_type = dict(zip(DTYPES, NUMPY_TYPES, strict=True))
    np.testing.assert_array_equal(cast.numpy(), t.numpy().astype(numpy_type[target]))
    assert (cast is t) == (source == target)


def test_casting_floats_to_integers_truncates_toward_zero():
    assert fastbp.tensor([-1.7, 1.7]).to(fastbp.int64).tolist() == [-1, 1]
    assert fastbp.tensor([0.0, -0.5, float("nan")]).to(fastbp.bool).tolist() == [False, True, True]


def test_named_casts():
    t = fastbp.tensor([1, 0])
    assert (t.float().dtype, t.double().dtype) == (fastbp.float32, fastbp.float64)
    assert (t.long().dtype, t.bool().dtype) == (fastbp.int64, fastbp.bool)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (fastbp.float32, fastbp.float64, fastbp.float64),
        (fastbp.int64, fastbp.float32, fastbp.float32),
        (fastbp.bool, fastbp.int64, fastbp.int64),
        (fastbp.bool, fastbp.float64, fastbp.float64),
        (fastbp.int64, fastbp.int64, fastbp.int64),
    ],
)
def test_operands_are_promoted(left, right, expected):
    a, b = fastbp.ones(2, dtype=left), fastbp.ones(2, dtype=right)
    assert (a * b).dtype == expected
    assert (b * a).dtype == expected


def test_python_numbers_promote_by_kind_only():
    single, whole = fastbp.ones(2), fastbp.ones(2, dtype=fastbp.int64)
    assert (single + 0.1).dtype == fastbp.float32
    assert (0.1 + single).dtype == fastbp.float32
    assert (single * 2).dtype == fastbp.float32
    assert (whole * 2).dtype == fastbp.int64
    assert (whole * 0.5).dtype == fastbp.float32
    assert (fastbp.ones(2, dtype=fastbp.float64) * 0.5).dtype == fastbp.float64


def test_zero_dimensional_tensors_do_not_widen_arrays_of_their_kind():
    scalar = fastbp.tensor(0.5, dtype=fastbp.float64)
    assert (fastbp.ones(2) * scalar).dtype == fastbp.float32
    assert (fastbp.ones(()) * scalar).dtype == fastbp.float64


def test_division_of_integers_gives_floats():
    quotient = fastbp.tensor([1, 3]) / fastbp.tensor([2, 2])
    assert quotient.dtype == fastbp.float32
    assert quotient.tolist() == [0.5, 1.5]


def test_functions_of_integers_are_floats_and_sums_of_bools_count():
    assert fastbp.exp(fastbp.tensor([0, 0])).dtype == fastbp.float32
    count = fastbp.tensor([True, False, True]).sum()
    assert (count.dtype, count.item()) == (fastbp.int64, 2)


# --- Python's view of a tensor ----------------------------------------------------------------------------------------


def test_scalars_become_python_numbers():
    assert fastbp.tensor([[2.5]]).item() == 2.5
    assert isinstance(fastbp.tensor(3).item(), int)
    assert isinstance(fastbp.tensor(True).item(), bool)
    assert float(fastbp.tensor(2.5)) == 2.5
    assert int(fastbp.tensor(3)) == 3
    assert bool(fastbp.tensor([0.0])) is False
    assert [10, 20, 30][fastbp.tensor(1)] == 20


def test_length_iteration_and_size():
    t, array = counted(3, 2)
    assert len(t) == 3
    assert [row.tolist() for row in t] == array.tolist()
    assert tuple(t.size()) == (3, 2)
    assert t.size(-1) == t.shape[1] == 2
    assert t.dim() == 2


def test_repr_shows_values_and_gradient_state():
    assert "1.5" in repr(fastbp.tensor([1.5, 2.0]))
    assert "requires_grad=True" in repr(fastbp.tensor([1.5], requires_grad=True))
    assert "float64" in repr(fastbp.ones(2, dtype=fastbp.float64))
    assert len(repr(fastbp.zeros(1000, 1000))) < 2000
    assert repr(fastbp.zeros(0))


def test_tensors_are_hashed_by_identity():
    a, b = fastbp.ones(2), fastbp.ones(2)
    assert len({a, b, a}) == 2


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda t: t.reshape(6, 4), lambda a: a.reshape(6, 4)),
        (lambda t: t.reshape((-1, 8)), lambda a: a.reshape(-1, 8)),
        (lambda t: t.view(4, -1), lambda a: a.reshape(4, -1)),
        (lambda t: t.flatten(), lambda a: a.reshape(-1)),
        (lambda t: t.flatten(1), lambda a: a.reshape(2, 12)),
        (lambda t: t.transpose(0, 2), lambda a: a.swapaxes(0, 2)),
        (lambda t: t.transpose(-1, -2), lambda a: a.swapaxes(1, 2)),
        (lambda t: t.permute(2, 0, 1), lambda a: a.transpose(2, 0, 1)),
        (lambda t: t.permute((1, -1, 0)), lambda a: a.transpose(1, 2, 0)),
        (lambda t: t.permute(2, 0, 1).reshape(8, 3), lambda a: a.transpose(2, 0, 1).reshape(8, 3)),
        (lambda t: t[0].T, lambda a: a[0].T),
        (lambda t: t.unsqueeze(1), lambda a: a[:, None]),
        (lambda t: t.unsqueeze(-1), lambda a: a[..., None]),
        (lambda t: t[:1].squeeze(), lambda a: a[0]),
        (lambda t: t[:, :1].squeeze(1), lambda a: a[:, 0]),
        (lambda t: t.squeeze(1), lambda a: a),
        (lambda t: t[:, :1].expand(2, 5, 4), lambda a: np.broadcast_to(a[:, :1], (2, 5, 4))),
        (lambda t: t[0, 0].expand(3, -1), lambda a: np.broadcast_to(a[0, 0], (3, 4))),
        (lambda t: fastbp.cat([t, t[:1]]), lambda a: np.concatenate([a, a[:1]])),
        (lambda t: fastbp.cat((t, t[..., :2]), dim=-1), lambda a: np.concatenate([a, a[..., :2]], -1)),
        (lambda t: fastbp.cat([t.permute(0, 2, 1)] * 2, 1), lambda a: np.concatenate([a.swapaxes(1, 2)] * 2, 1)),
        (lambda t: fastbp.stack([t, t + 1], dim=1), lambda a: np.stack([a, a + 1], 1)),
        (lambda t: fastbp.stack([t, t], -1), lambda a: np.stack([a, a], -1)),
    ],
)
def test_shape_operations_agree_with_numpy(function, expected):
    t, array = counted(2, 3, 4)
    result = function(t)
    np.testing.assert_array_equal(result.numpy(), expected(array))
    assert tuple(result.shape) == expected(array).shape


def test_split_by_size_and_by_sizes():
    t, array = counted(7, 2)
    assert [part.tolist() for part in t.split(3)] == [array[:3].tolist(), array[3:6].tolist(), array[6:].tolist()]
    assert [tuple(part.shape) for part in fastbp.split(t, [1, 1], dim=1)] == [(7, 1), (7, 1)]


def test_views_share_memory_and_reshape_copies_only_when_it_must():
    t, _ = counted(2, 3)
    views = [t.view(3, 2), t.reshape(6), t.T, t.permute(1, 0), t.unsqueeze(0), t.expand(4, 2, 3), t[1:], t.detach()]
    for view in views:
        t[1, 1] = 0.0
        assert 100.0 not in view.numpy()
        t[1, 1] = 100.0
        assert 100.0 in view.numpy()
    copied = t.T.reshape(6)
    t[1, 1] = 0.0
    assert 100.0 in copied.numpy()


def test_view_refuses_what_would_need_a_copy():
    t, _ = counted(2, 3)
    assert not t.T.is_contiguous()
    assert t.T.contiguous().is_contiguous()
    with pytest.raises(REFUSED, match="view"):
        t.T.view(6)


shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@properties
@given(shape=shapes, data=st.data())
def test_permute_and_reshape_round_trips(shape, data):
    t, array = counted(*shape)
    order = data.draw(st.permutations(range(len(shape))))
    back = np.argsort(order).tolist()
    moved = t.permute(*order) if shape else t.permute(())
    np.testing.assert_array_equal(moved.numpy(), array.transpose(order))
    np.testing.assert_array_equal((moved.permute(*back) if shape else moved).numpy(), array)
    np.testing.assert_array_equal(moved.reshape(moved.numel()).reshape(moved.shape).numpy(), array.transpose(order))


# --- in-place changes -------------------------------------------------------------------------------------------------


def test_in_place_methods_change_the_tensor_and_return_it():
    t = fastbp.tensor([1.0, -2.0, 3.0])
    assert t.add_(1.0) is t
    assert t.tolist() == [2, -1, 4]
    assert t.sub_(fastbp.ones(3)).mul_(2.0).div_(fastbp.tensor([1.0, 2.0, 4.0])).tolist() == [2, -2, 1.5]
    assert t.clamp_(-1.0, 1.0).tolist() == [1, -1, 1]
    assert t.copy_(fastbp.tensor([7, 8, 9])).tolist() == [7, 8, 9]
    assert t.fill_(4.0).tolist() == [4, 4, 4]
    assert t.zero_().tolist() == [0, 0, 0]


def test_augmented_assignment_is_in_place():
    t = alias = fastbp.tensor([1.0, 2.0])
    t += 1
    t *= fastbp.tensor([2.0, 3.0])
    t -= 0.5
    t /= 0.5
    assert alias is t
    assert t.tolist() == [7.0, 17.0]


def test_in_place_through_a_view_changes_the_base():
    t, array = counted(3, 4)
    t[:, 1].mul_(10.0)
    array[:, 1] *= 10
    t.T[2] += 1
    array.T[2] += 1
    t[1:, 2:].copy_(t[:2, :2])
    array[1:, 2:] = array[:2, :2].copy()
    np.testing.assert_array_equal(t.numpy(), array)


def test_overlapping_memory_is_read_before_it_is_written():
    t = fastbp.arange(6.0)
    t[1:] = t[:-1]
    assert t.tolist() == [0, 0, 1, 2, 3, 4]
    t[:-1] = t[1:].clone()
    assert t.tolist() == [0, 1, 2, 3, 4, 4]
    square = fastbp.arange(4.0).reshape(2, 2)
    assert square.copy_(square.T).tolist() == [[0, 2], [1, 3]]
    assert square.add_(square.T).tolist() == [[0, 3], [3, 6]]


def test_in_place_keeps_the_dtype_or_refuses():
    t = fastbp.tensor([1.0])
    t += fastbp.tensor([1.0], dtype=fastbp.float64)
    assert t.dtype == fastbp.float32
    with pytest.raises(REFUSED):
        fastbp.tensor([1]).add_(0.5)
