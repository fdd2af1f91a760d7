"""Small work, where overhead decides: beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import engines
import numpy as np
import pytest

import fastbp
from fastbp import _native
from fastbp.bench.call import KernelCall, Out
from fastbp.bench.cases import adam
from fastbp.bench.timing import Timing, ratio, seconds
from fastbp.nn import functional as F

Pair = tuple[Callable[[], Any], Callable[[], Any]]  # ours and PyTorch's


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def cross_entropy() -> Pair:
    """Loss and gradient of 64x10 logits: our kernel; PyTorch's forward and backward."""
    torch = engines.imported("torch")
    x, target = values(64, 10), np.random.default_rng(0).integers(0, 10, 64)
    denominator = np.full(1, 64, np.float32)
    call = KernelCall(
        "cross_entropy_forward", x, target, None, None, denominator, -100, 0.0, Out((64,)), Out((64, 10))
    ).verify()
    logits, labels = torch.tensor(x, requires_grad=True), torch.tensor(target)

    def theirs() -> Any:
        logits.grad = None
        torch.nn.functional.cross_entropy(logits, labels).backward()

    theirs()
    np.testing.assert_allclose(call.outputs()[1], logits.grad.numpy(), rtol=1e-4, atol=1e-7)
    return call.run, theirs


def adam_step() -> Pair:
    """A step of Adam on 100,000 parameters in cache: our two kernels; torch.optim.Adam(fused=True)."""
    torch = engines.imported("torch")
    call = adam(100_000).verify()
    advance = call.operands[0]
    parameter = torch.nn.Parameter(torch.tensor(values(100_000)))
    parameter.grad = torch.tensor(values(100_000))
    optimizer = torch.optim.Adam([parameter], lr=1e-3, fused=True)

    def ours() -> Any:
        _native.adam_advance(advance)
        call.run()

    return ours, optimizer.step


def layer(record: bool, backward: bool = False) -> Pair:
    """relu(linear(x, w, b)) of 8x8, eager."""
    torch = engines.imported("torch")
    arrays = values(8, 8), values(8, 8), values(8)
    ours = [fastbp.tensor(a, requires_grad=record) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=record) for a in arrays]

    def run_with(functional: Any, tensors: list[Any], seed: Any) -> Callable[[], Any]:
        def run() -> Any:
            y = functional.relu(functional.linear(*tensors))
            if backward:
                for tensor in tensors:
                    tensor.grad = None
                y.backward(seed)
            return y

        return run

    pair = (
        run_with(F, ours, fastbp.tensor(np.ones((8, 8), np.float32))),
        run_with(torch.nn.functional, theirs, torch.ones(8, 8)),
    )
    y, expected = (run().detach().numpy() for run in pair)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    if backward:
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-5, atol=1e-5)
    return pair


ROWS = 1000


def tiny_steps(epoch: bool) -> Pair:
    """Whole training steps (forward, MSE, backward, SGD) of 8-8-1 at batch 1; torch.add of one element, repeatedly.

    epoch: 1000 steps in one run_epoch beside 1000 additions; else one call beside four additions.
    """
    torch = engines.imported("torch")

    def parts() -> tuple[Any, Callable[[Any, Any], Any]]:
        fastbp.manual_seed(0)
        model = fastbp.nn.Sequential(fastbp.nn.Linear(8, 8), fastbp.nn.Tanh(), fastbp.nn.Linear(8, 1))
        optimizer = fastbp.optim.SGD(model.parameters(), lr=1e-3)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    x, y = fastbp.tensor(values(ROWS, 8)), fastbp.tensor(values(ROWS, 1))
    first = fastbp.tensor(values(ROWS, 8)[:1]), fastbp.tensor(values(ROWS, 1)[:1])
    (model, step), (eager_model, eager) = parts(), parts()
    compiled = fastbp.compile(step)
    batches = [first] * 3 if not epoch else [(x[i : i + 1], y[i : i + 1]) for i in range(ROWS)]
    for batch in batches:
        eager(*batch)
        if not epoch:
            compiled(*batch)
    if epoch:
        compiled.run_epoch([x, y], 1)
    for a, b in zip(model.parameters(), eager_model.parameters()):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    one, other, add, times = torch.ones(1), torch.ones(1), torch.add, range(ROWS if epoch else 4)

    def additions() -> Any:
        for _ in times:
            add(one, other)

    return (lambda: compiled.run_epoch([x, y], 1)) if epoch else (lambda: compiled(*first)), additions


SMALL: dict[str, Callable[[], Pair]] = {
    "cross-entropy with gradient, 64×10": cross_entropy,
    "Adam, 100,000 parameters": adam_step,
    "relu(linear) 8×8, not recorded": lambda: layer(record=False),
    "relu(linear) 8×8, recorded": lambda: layer(record=True),
    "relu(linear) 8×8, with its backward": lambda: layer(record=True, backward=True),
    "training step of 8-8-1, batch 1; PyTorch: 4 torch.add": lambda: tiny_steps(epoch=False),
    "1000 of them in run_epoch; PyTorch: 1000 torch.add": lambda: tiny_steps(epoch=True),
}


@pytest.mark.parametrize("name", SMALL)
def test_small(record: Callable[..., None], timing: Timing, name: str) -> None:
    try:
        ours, theirs = SMALL[name]()
    except engines.Absent as reason:
        pytest.skip(str(reason))
    times = timing.alternate({"fastbp": ours, "PyTorch": theirs})
    value = ratio(times["PyTorch"], times["fastbp"])
    taken = {engine: seconds(times[engine]) for engine in times}
    line = f"{name}: {taken['fastbp'] * 1e6:.2f} µs, PyTorch {taken['PyTorch'] * 1e6:.2f} µs, {value:.2f} times as long"
    record("small", line, ours, name=name, seconds=taken, ratios={"PyTorch": value})
