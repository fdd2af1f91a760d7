"""Training gives the same bits whatever the instruction set and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

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
