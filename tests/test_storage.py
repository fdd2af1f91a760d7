"""Host memory: aligned, nobody else's while a tensor or a view of it lives, given back with the last of them."""

from __future__ import annotations

import gc
import mmap
import pathlib
import threading
import weakref

import numpy as np
import pytest

import fastbp
from fastbp import kernels
from fastbp.kernels.storage import Buffer, empty, empty_broadcast, from_array

STATM = pathlib.Path("/proc/self/statm")
FLOAT32, BOOL = fastbp.float32.code, fastbp.bool.code
# Elements: around the sizes by which small blocks are kept, and beyond the largest of them.
COUNTS = [0, 1, 15, 16, 17, 32, 33, 1023, 1024, 1025, 16383, 16384, 16385, 40000]


@pytest.mark.parametrize("count", COUNTS)
def test_memory_is_aligned_to_a_cache_line(count):
    assert empty((count,), FLOAT32).data_ptr % 64 == 0
    assert empty((count,), BOOL).empty_like().data_ptr % 64 == 0


def test_memory_that_was_given_back_is_nobody_elses_when_it_comes_again():
    generator = np.random.default_rng(0)
    living: dict[int, tuple[Buffer, int]] = {}
    for value in range(2000):
        if living and generator.integers(3) == 0:
            for key in generator.choice(list(living), min(len(living), 5), replace=False):
                del living[int(key)]
        count = int(generator.choice(COUNTS))
        buffer = empty((count,), FLOAT32)
        np.asarray(buffer)[:] = value
        living[value] = buffer, count
        if len(living) > 100:
            living.pop(next(iter(living)))
    for value, (buffer, count) in living.items():
        np.testing.assert_array_equal(np.asarray(buffer), np.full(count, value, np.float32))


def test_a_large_block_serves_again():
    first, other = empty((40 << 20,), BOOL), empty((48 << 20,), BOOL)
    places = first.data_ptr, other.data_ptr
    del first, other
    again, other = empty((40 << 20,), BOOL), empty((48 << 20,), BOOL)
    assert (again.data_ptr, other.data_ptr) == places
    assert empty((40 << 20,), BOOL).data_ptr not in places


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc/self/statm to see how much memory is held")
def test_of_large_blocks_no_more_than_128_mib_are_kept():
    def held() -> int:
        return int(STATM.read_text().split()[1]) * mmap.PAGESIZE >> 20

    before = held()
    blocks = [empty(((40 << 20) + i,), BOOL) for i in range(8)]
    for block in blocks:
        np.asarray(block)[:] = True
    assert held() - before > 300
    del block, blocks
    assert held() - before < 150


def test_a_view_keeps_the_memory():
    x = fastbp.full((64,), 7.0)
    views = [x[3:], x.reshape(8, 8), x.expand(2, 64), x.detach().buffer, x.detach().numpy()]
    del x
    others = [fastbp.zeros(64) for _ in range(300)]
    for view in views:
        assert np.all(np.asarray(view) == 7)
    assert len(others) == 300


@pytest.mark.parametrize("views", [0, 2])
def test_a_shared_array_is_given_up_with_the_last_view(views):
    array = np.zeros(10)
    gone = weakref.ref(array)
    buffers = [from_array(array)]
    buffers += [buffers[0].reshape((5, 2)) for _ in range(views)]
    del array
    while buffers:
        gc.collect()
        assert gone() is not None
        buffers.pop()
    gc.collect()
    assert gone() is None


def test_results_of_two_operands_have_the_shape_that_numpy_gives():
    shapes = [(), (1,), (3,), (1, 3), (2, 1), (4, 1, 3), (0,), (2, 0), (1, 1, 1)]
    for a in shapes:
        for b in shapes:
            operands = empty(a, FLOAT32), empty(b, FLOAT32)
            try:
                expected = np.broadcast_shapes(a, b)
            except ValueError:
                with pytest.raises(ValueError, match=r"add.*expected shapes that broadcast"):
                    empty_broadcast("add", *operands, False)
            else:
                y = empty_broadcast("add", *operands, True)
                assert (y.shape, y.dtype) == (expected, BOOL)
        assert empty_broadcast("add", 1.0, empty(a, FLOAT32), False).shape == a


def test_a_buffer_without_a_value_is_refused():
    with pytest.raises(TypeError, match="expected"):
        _ = Buffer.__new__(Buffer).shape
    with pytest.raises(TypeError, match="expected"):
        memoryview(Buffer.__new__(Buffer))


def test_a_selected_backend_holds_for_its_thread_only():
    x = fastbp.ones(1)
    seen = []
    with fastbp.backend("reference"):
        seen.append(kernels.of(x).__name__)
        thread = threading.Thread(target=lambda: seen.append(kernels.of(x).__name__))
        thread.start()
        thread.join()
    seen.append(kernels.of(x).__name__)
    assert seen == ["fastbp.kernels.reference", "fastbp.kernels.native", "fastbp.kernels.native"]
