"""Training gives the same bits whatever the instruction set and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from settings import native_settings_kept

import fastbp
from fastbp import _native, data, nn

RUNS = [(isa, threads) for isa in _native.available_isas() for threads in (1, 2, 3, 8)]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with native_settings_kept():
        yield


def trained_weights() -> bytes:
    """Three epochs on the embedded digits, with what the contract covers: products, losses, dropout, Adam, clipping."""
    fastbp.manual_seed(5)
    x, y = data.load_digits("train")
    model = nn.Sequential(
        nn.Linear(64, 48), nn.GELU(), nn.Dropout(0.1), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, 10)
    )
    optimizer = fastbp.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(3):
        for xs, ys in data.Batches(x, y, batch_size=96, shuffle=True, seed=1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(xs), ys, label_smoothing=0.05).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


@pytest.fixture(scope="module")
def oracle() -> bytes:
    with native_settings_kept():  # this runs before the settings of the first test are kept
        _native.set_isa("scalar")
        _native.set_threads(1)
        return trained_weights()


@pytest.mark.parametrize(("isa", "threads"), RUNS)
def test_weights_do_not_depend_on_instruction_set_or_threads(oracle: bytes, isa: str, threads: int) -> None:
    _native.set_isa(isa)
    _native.set_threads(threads)
    _native.set_work_gate(0)
    assert trained_weights() == oracle


@pytest.mark.parametrize(("isa", "threads"), RUNS)
def test_a_row_of_a_forward_pass_does_not_depend_on_its_batch(isa: str, threads: int) -> None:
    """Few rows, many, and the paths between them: in place, transposed in registers, packed, from panels."""
    _native.set_isa(isa)
    _native.set_threads(threads)
    _native.set_work_gate(0)
    fastbp.manual_seed(3)
    model = nn.Sequential(nn.Linear(515, 70), nn.GELU(), nn.Linear(70, 33), nn.Softmax(dim=1))
    x = fastbp.randn(131, 515)
    with fastbp.no_grad():
        whole = model(x).numpy()
        for first, rows in ((0, 1), (130, 1), (7, 2), (60, 3), (5, 4), (11, 13), (0, 24), (3, 25), (30, 97), (1, 130)):
            part = model(x[first : first + rows]).numpy()
            np.testing.assert_array_equal(part, whole[first : first + rows], err_msg=f"rows {first}, {rows} of them")
