"""Exchange: memory is shared with NumPy and DLPack consumers in both directions; pickle and deepcopy make copies."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest

import fastbp

DTYPES = [fastbp.float32, fastbp.float64, fastbp.int64, fastbp.bool]
NUMPY_TYPES = [np.float32, np.float64, np.int64, np.bool_]


@pytest.fixture(autouse=True, params=["native", "reference"])
def backend(request):
    with fastbp.backend(request.param):
        yield request.param


def test_tensor_copies():
    array = np.zeros(3)
    t = fastbp.tensor(array)
    array[0] = 5
    assert t[0].item() == 0


@pytest.mark.parametrize("numpy_type", NUMPY_TYPES)
@pytest.mark.parametrize("share", [fastbp.from_numpy, fastbp.as_tensor, fastbp.from_dlpack])
def test_arrays_are_shared_both_ways(share, numpy_type):
    array = np.zeros((3, 4), dtype=numpy_type)
    t = share(array)
    array[1, 1] = 1
    assert t[1, 1].item() == 1
    t[2, 2] = 1
    assert array[2, 2] == 1


@pytest.mark.parametrize("export", [lambda t: t.numpy(), np.asarray, np.from_dlpack])
def test_tensors_are_shared_with_numpy(export):
    t = fastbp.zeros(3, 4)
    array = export(t)
    t[1, 1] = 1
    assert array[1, 1] == 1
    np.testing.assert_array_equal(export(t.T), export(t).T)


def test_strided_arrays_are_shared():
    array = np.arange(24.0).reshape(4, 6)
    for view in (array[::2, 1::2], array.T, array[:, :1]):
        np.testing.assert_array_equal(fastbp.from_numpy(view).numpy(), view)
    fastbp.from_numpy(array[::2, 1::2])[0, 0] = -1
    assert array[0, 1] == -1


def test_shared_memory_outlives_its_owner():
    t = fastbp.from_numpy(np.full(1000, 3.0))
    array = np.from_dlpack(fastbp.full((1000,), 3.0))
    gc.collect()
    assert t.sum().item() == array.sum() == 3000


def test_numpy_functions_accept_tensors():
    t = fastbp.arange(6.0).reshape(2, 3)
    array = t.numpy().copy()
    np.testing.assert_array_equal(np.asarray(t, dtype=np.float64), array.astype(np.float64))
    assert np.sum(np.asarray(t)) == array.sum()
    np.array(t)[0, 0] = 100
    assert t[0, 0].item() == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_exchange_with_torch_by_dlpack(dtype):
    torch = pytest.importorskip("torch")
    t = fastbp.zeros(2, 3, dtype=dtype)
    theirs = torch.from_dlpack(t)
    theirs[0, 1] = 1
    assert t[0, 1].item() == 1
    ours = fastbp.from_dlpack(theirs.T)
    assert tuple(ours.shape) == (3, 2)
    ours[2, 1] = 1
    assert theirs[1, 2].item() == 1
    assert t.sum().item() == 2


def test_a_recorded_tensor_is_exported_only_after_detach():
    t = fastbp.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        t.numpy()
    assert t.detach().numpy().tolist() == [1, 1]
    assert t.tolist() == [1, 1]


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_pickle_and_deepcopy(duplicate, requires_grad):
    t = fastbp.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=fastbp.float64, requires_grad=requires_grad)
    twin = duplicate(t)
    assert (twin.dtype, twin.requires_grad, twin.tolist()) == (t.dtype, requires_grad, t.tolist())
    with fastbp.no_grad():
        t.zero_()
    assert twin.tolist() == [[1, 2], [3, 4]]
    assert duplicate(fastbp.arange(6).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_read_only_memory_stays_read_only():
    array = np.ones(3)
    array.flags.writeable = False
    for share in (fastbp.from_numpy, fastbp.from_dlpack, fastbp.as_tensor):
        t = share(array)
        with fastbp.backend("native"), pytest.raises(ValueError, match="writable"):
            t.fill_(2.0)
    np.testing.assert_array_equal(array, 1.0)
