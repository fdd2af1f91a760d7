"""Every operation, activation and loss in a compiled function, and operations that users write."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import BATCHES, assert_same_run, batch, labelled, perceptron, training_step, with_sgd
from op_cases import BY_NAME
from settings import native_settings_kept

import fastbp
from fastbp import _native, nn, optim
from fastbp.nn import functional as F

# Operations that need values or new data on the host before they can run.
ON_THE_HOST = {"mask", "pick_repeated_rows", "pick_pairs"}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operation_with_its_gradient(name):
    case = BY_NAME[name]

    def setup():
        def run(*inputs):
            y = case.function(fastbp, *inputs)
            y = y if isinstance(y, fastbp.Tensor) else y[0]
            (y * y).sum().backward()
            return y

        return (run,)

    calls = [lambda dtype=dtype: case.tensors(fastbp, dtype) for dtype in (np.float64, np.float64, np.float32)]
    if name in ON_THE_HOST:
        with pytest.raises(fastbp.CompileError):
            assert_same_run(setup, calls)
    else:
        assert_same_run(setup, calls)


@pytest.mark.parametrize("name", [op.__name__ for op in nn.activation.OPERATIONS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation_between_layers(name, dtype):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 3)

        def forward(self, x):
            h = self.first(x)
            if name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal"):
                h = h.abs() + 0.5
            options = {"softmax": [1], "log_softmax": [1], "clamp": [-0.3, 0.4]}.get(name, [])
            return self.last(getattr(F, name)(h, *options))

    assert_same_run(with_sgd(lambda: Net().to(dtype=dtype), lr=0.01), [batch(t, dtype=dtype) for t in range(3)])


def probabilities(t, rows=8, classes=3):
    values = np.random.default_rng(t).uniform(0.1, 1.0, (rows, classes)).astype(np.float32)
    return fastbp.tensor(values / values.sum(1, keepdims=True))


def ignoring(y, every=3):
    y = y.clone()
    y[::every] = -100
    return y


WEIGHT = fastbp.tensor([0.5, 2.0, 1.25])
MANY = 1100  # rows: they go through a program in chunks of 512
ROW_WEIGHTS = {rows: fastbp.tensor(np.linspace(0.5, 2, rows).astype(np.float32)) for rows in (8, MANY)}
QUANTILES = fastbp.tensor([0.2, 0.5, 0.7])


def row_weight(x):
    return ROW_WEIGHTS[x.shape[0]]


def twice(x):
    """Each of K numbers as two that a mixture takes for a component: (N, K, 2)."""
    return x.unsqueeze(2).expand(*x.shape, 2)


LOSSES = {
    "mse": (F.mse_loss, "real"),
    "mse sum": (lambda x, y: F.mse_loss(x, y, reduction="sum"), "real"),
    "mse none": (lambda x, y: F.mse_loss(x, y, reduction="none").mean(), "real"),
    "mse weighted": (lambda x, y: F.mse_loss(x, y, sample_weight=row_weight(x)), "real"),
    "l1": (F.l1_loss, "real"),
    "l1 weighted": (lambda x, y: F.l1_loss(x, y, reduction="sum", sample_weight=row_weight(x)), "real"),
    "bce": (lambda x, y: F.binary_cross_entropy(F.sigmoid(x), y), "share"),
    "bce logits": (F.binary_cross_entropy_with_logits, "share"),
    "bce pos_weight": (lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=WEIGHT), "share"),
    "bce none": (lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none").sum(), "share"),
    "huber": (F.huber_loss, "real"),
    "huber weighted": (lambda x, y: F.huber_loss(x, y, delta=0.3, sample_weight=row_weight(x)), "real"),
    "smooth l1": (lambda x, y: F.smooth_l1_loss(x, y, beta=0.5), "real"),
    "quantile": (lambda x, y: F.quantile_loss(x, y[:, 0], (0.1, 0.5, 0.9)), "real"),
    "quantile none": (lambda x, y: F.quantile_loss(x, y[:, 0], QUANTILES, reduction="none").mean(), "real"),
    "focal": (F.sigmoid_focal_loss, "share"),
    "focal weighted": (lambda x, y: F.sigmoid_focal_loss(x, y, -1, 0.5, sample_weight=row_weight(x)), "share"),
    "hinge": (F.hinge_loss, "sign"),
    "hinge embedding": (F.hinge_embedding_loss, "sign"),
    "poisson": (lambda x, y: F.poisson_nll_loss(x, y, full=True), "share"),
    "poisson rate": (lambda x, y: F.poisson_nll_loss(x.exp(), y, log_input=False), "share"),
    "kl_div": (lambda x, y: F.kl_div(F.log_softmax(x, 1), y, "batchmean", sample_weight=row_weight(x)), "share"),
    "kl_div logs": (lambda x, y: F.kl_div(F.log_softmax(x, 1), y, log_target=True), "real"),
    "gaussian": (lambda x, y: F.gaussian_nll_loss(x, y, x.exp(), full=True), "real"),
    "gaussian rows": (lambda x, y: F.gaussian_nll_loss(x, y, x.exp()[:, :1], sample_weight=row_weight(x)), "real"),
    "mixture": (lambda x, y: F.mixture_nll_loss(x, x.unsqueeze(2), x.unsqueeze(2) * 0.1, y[:, :1]), "real"),
    "mixture weighted": (
        lambda x, y: F.mixture_nll_loss(x, twice(x), twice(x * 0.1), y[:, :2], sample_weight=row_weight(x)),
        "real",
    ),
    "cosine": (lambda x, y: F.cosine_embedding_loss(x, x * y, y[:, 0], 0.1), "sign"),
    "nll": (lambda x, y: F.nll_loss(F.log_softmax(x, 1), y), "classes"),
    "nll all": (
        lambda x, y: F.nll_loss(F.log_softmax(x, 1), y, weight=WEIGHT, sample_weight=row_weight(x)),
        "ignoring",
    ),
    "penalised": (lambda x, y: F.mse_loss(x, y) + 0.1 * F.l1_penalty(x) + 0.1 * F.l2_penalty([x, x * 2]), "real"),
    "cross entropy": (F.cross_entropy, "classes"),
    "cross entropy sum": (lambda x, y: F.cross_entropy(x, y, reduction="sum"), "classes"),
    "cross entropy none": (lambda x, y: F.cross_entropy(x, y, reduction="none").mean(), "classes"),
    "cross entropy weight": (lambda x, y: F.cross_entropy(x, y, weight=WEIGHT), "classes"),
    "cross entropy ignoring": (lambda x, y: F.cross_entropy(x, y, weight=WEIGHT), "ignoring"),
    "cross entropy ignore_index": (lambda x, y: F.cross_entropy(x, y, ignore_index=1), "classes"),
    "cross entropy smoothing": (lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), "classes"),
    "cross entropy all": (
        lambda x, y: F.cross_entropy(x, y, weight=WEIGHT, label_smoothing=0.2, sample_weight=row_weight(x)),
        "ignoring",
    ),
    "cross entropy probabilities": (lambda x, y: F.cross_entropy(x, y, weight=WEIGHT), "share"),
    "cross entropy probabilities weighted": (
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1, sample_weight=row_weight(x)),
        "share",
    ),
}


def batch_for(target, t, rows=8):
    x, classes = labelled(t, rows)
    return x, {
        "real": lambda: batch(t, rows)[1],
        "share": lambda: probabilities(t, rows),
        "sign": lambda: (batch(t, rows)[1] > 0).float() * 2 - 1,
        "classes": lambda: classes,
        "ignoring": lambda: ignoring(classes),
    }[target]()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    loss, target = LOSSES[name]
    assert_same_run(with_sgd(loss=loss), [batch_for(target, t) for t in range(3)], variants=1)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_many_rows_on_three_threads(name):
    loss, target = LOSSES[name]
    with native_settings_kept():
        fastbp.set_num_threads(3)
        _native.set_work_gate(0)
        assert_same_run(with_sgd(loss=loss), [batch_for(target, t, MANY) for t in range(2)], variants=1)


def test_an_operation_of_the_user():
    class Double(fastbp.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * x * 2

    def setup():
        model = perceptron()
        return training_step(lambda x: Double.apply(model(x)), optim.SGD(model.parameters(), lr=0.1)), model

    assert_same_run(setup, BATCHES)
