"""Programs over batches of many rows, 512 at a time: equal bits, and memory that does not grow with the batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import compiled_runs
import numpy as np
import pytest
from compiled_runs import assert_same, trace, training_step
from settings import native_settings_kept, numbers_of_threads

import fastbp
from fastbp import _native, nn, optim
from fastbp.nn import functional as F
from fastbp.program.chunks import CHUNK, ROWS, TERMS
from fastbp.program.memory import ARENA
from fastbp.program.variant import Variant


def batch(t: int, rows: int, dtype: str = "float32") -> tuple[Any, Any]:
    return compiled_runs.batch(t, rows, 6, OUTPUTS, dtype)


def labelled(t: int, rows: int) -> tuple[Any, Any]:
    return compiled_runs.labelled(t, rows, 6, 6)


threads = numbers_of_threads(1, 2, 3, 8)
OUTPUTS = 9  # at least as many as there are threads: the gradient of fewer rows of a weight is not cut


def network(dtype: str = "float32", dropout: float = 0.0, norm: Any = None) -> nn.Module:
    middle = [nn.Dropout(dropout)] if dropout else []
    if norm is not None:
        middle.append(norm(24))
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), *middle, nn.Linear(24, OUTPUTS)).to(dtype=getattr(fastbp, dtype))


def regression(dtype: str = "float32", dropout: float = 0.0) -> Any:
    model = network(dtype, dropout)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return training_step(model, optimizer), model, optimizer


def classification(dropout: float = 0.0, norm: Any = None) -> Any:
    model = network(dropout=dropout, norm=norm)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    return training_step(model, optimizer, F.cross_entropy), model, optimizer


def accumulation(reverse: bool = False) -> Any:
    """Gradients of a step are the sum over two batches, of which the second may have another number of rows."""
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        parts = [(x, y), (x[: len(x) // 2], y[: len(x) // 2])]
        losses = []
        for a, b in parts[::-1] if reverse else parts:
            losses.append(F.mse_loss(model(a), b))
            losses[-1].backward()
        optimizer.step()
        return losses

    return step, model, optimizer


def accumulation_over_calls() -> Any:
    model = network()

    def add(x, y):
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    return add, model


def measured() -> Any:
    """Beside the loss: what is computed of each row, and means and counts over all rows."""
    model = network(dropout=0.2)
    optimizer = optim.AdamW(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        prediction = model(x)
        loss = F.cross_entropy(prediction, y)
        loss.backward()
        optimizer.step()
        right = prediction.detach().argmax(1) == y
        return loss, right.to(fastbp.float32).mean(), right, F.softmax(prediction, 1).amax(1), prediction.sum(0)

    return step, model, optimizer


def weighted() -> Any:
    """Rows are read again, scaled by what all rows decide."""
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        error = (model(x) - y).square().sum(1)
        loss = (error * (error.detach() / error.detach().sum())).sum()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss, norm

    return step, model, optimizer


def forward() -> Any:
    model = network(dropout=0.3)
    return (lambda x, y: (model(x), F.mse_loss(model(x), y))), model


def two_inputs_of_a_layer() -> Any:
    """One weight for two products over the rows, and a gradient with respect to a weight used twice."""
    model = nn.Linear(6, 6)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(F.tanh(model(x))), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, model, optimizer


def beside_batch_norm() -> Any:
    """Rows go through one network in chunks, and through half of another, whose batch norm waits for all of them."""
    model = nn.ModuleList([network(), nn.Sequential(nn.Linear(6, 24), nn.BatchNorm1d(24), nn.Tanh())])
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        losses = F.mse_loss(model[0](x), y), F.mse_loss(model[1](x), fastbp.ones(len(x), 24))
        for loss in losses:
            loss.backward()
        optimizer.step()
        return losses

    return step, model, optimizer


SETUPS: dict[str, tuple[Callable[[], Any], Callable[..., Any]]] = {
    "regression": (regression, batch),
    "dropout": (lambda: regression(dropout=0.4), batch),
    "classes": (classification, labelled),
    "classes, dropout": (lambda: classification(0.4), labelled),
    "accumulation": (accumulation, batch),
    "accumulation, small first": (lambda: accumulation(reverse=True), batch),
    "accumulation over calls": (accumulation_over_calls, batch),
    "metrics": (measured, labelled),
    "rows twice": (weighted, batch),
    "forward only": (forward, batch),
    "a weight used twice": (two_inputs_of_a_layer, labelled),
    "layer norm": (lambda: classification(norm=nn.LayerNorm), labelled),
    "rms norm": (lambda: classification(norm=nn.RMSNorm), labelled),
    "batch norm": (lambda: classification(norm=nn.BatchNorm1d), labelled),
    "beside batch norm": (beside_batch_norm, batch),
}


def assert_equal_runs(setup: Callable[[], Any], calls: list[Any], keep: bool) -> Variant:
    """The same states after each call; returns the last recording."""
    expected, _ = trace(setup, calls, lambda f: f, grads=keep)
    got, compiled = trace(setup, calls, lambda f: fastbp.compile(f, keep_grads=keep), grads=keep)
    for t, (a, b) in enumerate(zip(expected, got, strict=True)):
        assert_same(a, b, f"call {t}: ")
    return compiled._last


@pytest.mark.parametrize("rows", [513, 1024, 1300])
@pytest.mark.parametrize("name", SETUPS)
def test_bits_are_those_of_the_whole_batch(name, rows, threads):
    setup, data = SETUPS[name]
    assert_equal_runs(setup, [data(t, rows) for t in range(2)], keep=rows == 1024)


@pytest.mark.parametrize("rows", [513, 1024, 1300])
def test_float64(rows, threads):
    for dropout in (0.0, 0.4):
        calls = [batch(t, rows, "float64") for t in range(2)]
        assert_equal_runs(lambda dropout=dropout: regression("float64", dropout), calls, keep=False)


@pytest.mark.parametrize("name", ["regression", "classes, dropout", "metrics"])
def test_another_number_of_rows_is_a_recording_of_its_own(name, threads):
    setup, data = SETUPS[name]
    assert_equal_runs(setup, [data(t, rows) for t, rows in enumerate((1300, 40, 512, 513, 1300))], keep=False)


@pytest.mark.parametrize("widths", [(33, 49, 65), (40, 96, 64, 10)])
def test_layers_with_panels(widths, threads):
    def setup():
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        model = nn.Sequential(*layers[:-1])
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        return training_step(model, optimizer), model, optimizer

    variant = assert_equal_runs(
        setup, [compiled_runs.batch(t, 1100, widths[0], widths[-1]) for t in range(3)], keep=False
    )
    assert variant.built.chunks.rows == 1100


@pytest.mark.parametrize("name", ["regression", "dropout", "classes", "classes, dropout", "layer norm", "rms norm"])
def test_a_training_step_goes_chunk_by_chunk(name, threads):
    setup, data = SETUPS[name]
    for rows, expected in ((512, 0), (513, 513), (1300, 1300)):
        built = assert_equal_runs(setup, [data(0, rows)], keep=False).built
        assert built.chunks.rows == expected
        kernels = {item.step.kernel: part for item, part in zip(built.items, built.chunks.part)}
        assert kernels["linear_forward"] == (ROWS if expected else 0)
        for kernel in {"linear_backward_weight", "row_norm_backward_weight"} & kernels.keys():
            assert kernels[kernel] == (TERMS if expected else 0)
        local = set(built.chunks.local)
        assert all(item.step.kernel != "sgd_step" or p == 0 for item, p in zip(built.items, built.chunks.part))
        assert not local & {b.storage[0] for b in built.kept}
        if expected:
            stages = len(built.groups)
            assert built.program.barriers == 2 * (-(-rows // CHUNK) - 1) + stages - 1


def test_batch_norm_needs_all_rows_before_it_goes_on(threads):
    setup, data = SETUPS["batch norm"]
    assert assert_equal_runs(setup, [data(0, 1300)], keep=False).built.chunks.rows == 0
    setup, data = SETUPS["beside batch norm"]
    built = assert_equal_runs(setup, [data(0, 1300)], keep=False).built
    assert built.chunks.rows == 1300
    parts = {item.step.kernel: part for item, part in zip(built.items, built.chunks.part)}
    assert parts["batch_norm_forward"] == parts["batch_norm_backward"] == 0


def inner_bytes(variant: Variant) -> int:
    """Bytes of the arena, but for the loss of each row, which all rows are summed from at the end."""
    built = variant.built
    rows = variant.inputs[0].shape[0]
    losses = [size for _, size, kind, _, row_bytes in built.memory.homes if kind == ARENA and size >= 4 * rows]
    assert len(losses) <= 1
    return built.memory.arena_bytes + built.threads * built.memory.each_share_bytes - sum(losses)


@pytest.mark.parametrize("name", ["dropout", "classes", "classes, dropout", "layer norm", "rms norm"])
def test_memory_does_not_grow_with_the_batch(name, threads):
    setup, data = SETUPS[name]
    sizes = []
    for rows in (1024, 16384):
        fastbp.manual_seed(0)
        compiled = fastbp.compile(setup()[0])
        compiled.explain(*data(0, rows))
        sizes.append(inner_bytes(compiled._last))
    assert sizes[1] <= 2 * sizes[0]


def test_other_instruction_sets():
    for isa in _native.available_isas():
        with native_settings_kept():
            _native.set_isa(isa)
            fastbp.set_num_threads(2)
            setup, data = SETUPS["classes, dropout"]
            assert_equal_runs(setup, [data(t, 1300) for t in range(2)], keep=False)


def test_rows_are_read_where_the_arguments_lie(threads):
    """Arguments of every call are in other memory: chunks follow it."""
    setup, _ = SETUPS["regression"]
    fastbp.manual_seed(11)
    eager, *_ = setup()
    fastbp.manual_seed(11)
    compiled = fastbp.compile(setup()[0])
    kept = []
    for t in range(4):
        x, y = batch(t, 1300)
        kept.append((x, y))
        np.testing.assert_array_equal(eager(x, y).detach().numpy(), compiled(x, y).numpy())
    kept = kept[::-1]
    for x, y in kept:
        np.testing.assert_array_equal(eager(x, y).detach().numpy(), compiled(x, y).numpy())
