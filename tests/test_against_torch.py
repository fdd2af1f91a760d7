"""PyTorch as the oracle: 50 steps of every optimizer with every loss, losses with all their options, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp
from fastbp import nn, optim

torch = pytest.importorskip("torch")

STEPS, ROWS, INPUTS, HIDDEN, OUTPUTS = 50, 16, 6, 9, 4

OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "sgd momentum": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    "sgd nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {"lr": 0.003, "weight_decay": 0.01}),
    "rmsprop momentum": ("RMSprop", {"lr": 0.003, "alpha": 0.9, "momentum": 0.5, "eps": 1e-6}),
    "rmsprop centered": ("RMSprop", {"lr": 0.003, "centered": True, "momentum": 0.5, "eps": 1e-4}),
    "adagrad": ("Adagrad", {"lr": 0.03, "lr_decay": 0.02, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
    "adam": ("Adam", {"lr": 0.01, "weight_decay": 0.01}),
    "adam betas": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6}),
    "amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.9)}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "adamw amsgrad": ("AdamW", {"lr": 0.01, "amsgrad": True}),
}

rng = np.random.default_rng(11)
X = rng.normal(size=(ROWS, INPUTS))
REAL = rng.normal(size=(ROWS, OUTPUTS))
SHARE = rng.uniform(size=(ROWS, OUTPUTS))
PROBABILITIES = SHARE / SHARE.sum(axis=1, keepdims=True)
CLASSES = rng.integers(0, OUTPUTS, ROWS)
CLASSES[3] = 1
IGNORING = np.where(np.arange(ROWS) % 5 == 0, 1, CLASSES)
WEIGHT = rng.uniform(0.5, 2.0, OUTPUTS)

# name → (class, options, target, whether it needs probabilities)
LOSSES = {
    "mse": ("MSELoss", {}, REAL),
    "l1": ("L1Loss", {}, REAL),
    "cross entropy": ("CrossEntropyLoss", {}, CLASSES),
    "cross entropy weighted": ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, CLASSES),
    "cross entropy ignoring": ("CrossEntropyLoss", {"ignore_index": 1, "weight": WEIGHT}, IGNORING),
    "cross entropy probabilities": ("CrossEntropyLoss", {}, PROBABILITIES),
    "cross entropy probabilities weighted": (
        "CrossEntropyLoss",
        {"weight": WEIGHT, "label_smoothing": 0.2},
        PROBABILITIES,
    ),
    "bce": ("BCELoss", {}, SHARE),
    "bce logits": ("BCEWithLogitsLoss", {}, SHARE),
    "bce logits weighted": ("BCEWithLogitsLoss", {"pos_weight": WEIGHT}, (SHARE > 0.5) * 1.0),
}


class Side:
    """One library: its modules, and how NumPy arrays become its tensors."""

    def __init__(self, library, dtype):
        self.library, self.nn, self.optim = library, library.nn, library.optim
        self.dtype = getattr(library, dtype)

    def tensor(self, array):
        array = np.asarray(array)
        return self.library.tensor(array) if array.dtype == np.int64 else self.library.tensor(array, dtype=self.dtype)

    def options(self, options):
        return {name: self.tensor(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def loss(self, name):
        kind, options, target = LOSSES[name]
        return getattr(self.nn, kind)(**self.options(options)), self.tensor(target)

    def network(self, name, weights):
        tail = [self.nn.Sigmoid()] if LOSSES[name][0] == "BCELoss" else []
        model = self.nn.Sequential(
            self.nn.Linear(INPUTS, HIDDEN), self.nn.Tanh(), self.nn.Linear(HIDDEN, OUTPUTS), *tail
        )
        if self.dtype is self.library.float64:
            model.double()
        model.load_state_dict({key: self.tensor(value) for key, value in weights.items()})
        return model


def weights():
    r = np.random.default_rng(3)
    shapes = {"0.weight": (HIDDEN, INPUTS), "0.bias": (HIDDEN,), "2.weight": (OUTPUTS, HIDDEN), "2.bias": (OUTPUTS,)}
    return {name: r.uniform(-0.5, 0.5, shape) for name, shape in shapes.items()}


def arrays(model):
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def trajectory(side, loss_name, optimizer_name, steps=STEPS, clip=None):
    """Losses of all steps and the weights after the last."""
    model = side.network(loss_name, weights())
    loss_function, target = side.loss(loss_name)
    kind, options = OPTIMIZERS[optimizer_name]
    optimizer = getattr(side.optim, kind)(model.parameters(), **options)
    x = side.tensor(X)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_function(model(x), target)
        loss.backward()
        if clip is not None:
            side.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses, arrays(model)


def assert_close(ours, theirs, dtype):
    """float64 to 1e-10; float32 to what 50 steps make of rounding errors of 6e-8."""
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 2e-5, "atol": 1e-5}
    np.testing.assert_allclose(ours[0], theirs[0], **tolerance)
    for name, value in theirs[1].items():
        np.testing.assert_allclose(ours[1][name], value, err_msg=name, **tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trajectory(optimizer, loss, dtype):
    ours = trajectory(Side(fastbp, dtype), loss, optimizer)
    theirs = trajectory(Side(torch, dtype), loss, optimizer)
    assert theirs[0][-1] < theirs[0][0]
    assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_trajectory_on_the_reference_backend(optimizer):
    with fastbp.backend("reference"):
        ours = trajectory(Side(fastbp, "float64"), "cross entropy", optimizer)
    assert_close(ours, trajectory(Side(torch, "float64"), "cross entropy", optimizer), "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_trajectory_with_clipping(dtype):
    ours = trajectory(Side(fastbp, dtype), "mse", "sgd momentum", clip=0.05)
    assert_close(ours, trajectory(Side(torch, dtype), "mse", "sgd momentum", clip=0.05), dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_that_skip_steps(optimizer):
    """PyTorch counts the steps of each parameter; so does fastbp."""

    def run(side):
        r = np.random.default_rng(5)
        params = [side.nn.Parameter(side.tensor(r.normal(size=(2, 3)))) for _ in range(3)]
        kind, options = OPTIMIZERS[optimizer]
        steps = getattr(side.optim, kind)(params, **options)
        for t in range(20):
            for i, p in enumerate(params):
                gradient = side.tensor(r.normal(size=(2, 3)))
                p.grad = None if (t + i) % (i + 2) == 0 else gradient
            steps.step()
        return [], {str(i): p.detach().numpy().copy() for i, p in enumerate(params)}

    assert_close(run(Side(fastbp, "float64")), run(Side(torch, "float64")), "float64")


@pytest.mark.parametrize("optimizer", ["sgd momentum", "adam", "rmsprop"])
def test_one_cycle_changes_momentum_in_the_run(optimizer):
    def run(side):
        r = np.random.default_rng(5)
        p = side.nn.Parameter(side.tensor(r.normal(size=4)))
        kind, options = OPTIMIZERS[optimizer]
        steps = getattr(side.optim, kind)([p], **options)
        schedule = side.optim.lr_scheduler.OneCycleLR(
            steps, max_lr=0.1, total_steps=30, cycle_momentum=optimizer != "rmsprop"
        )
        for _ in range(29):
            p.grad = side.tensor(r.normal(size=4))
            steps.step()
            schedule.step()
        return [], {"p": p.detach().numpy().copy()}

    assert_close(run(Side(fastbp, "float64")), run(Side(torch, "float64")), "float64")


# Losses


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradient(loss, reduction, dtype):
    kind, options, _ = LOSSES[loss]
    start = np.random.default_rng(8).normal(size=(ROWS, OUTPUTS))
    if kind == "BCELoss":
        start = 1 / (1 + np.exp(-start))
        start[0], start[1] = 0.0, 1.0

    def run(side):
        x = side.tensor(start).requires_grad_()
        y = getattr(side.nn, kind)(**{**side.options(options), "reduction": reduction})(x, side.loss(loss)[1])
        y.sum().backward()
        return y.detach().numpy(), x.grad.numpy()

    tolerance = {"rtol": 1e-12, "atol": 1e-14} if dtype == "float64" else {"rtol": 2e-6, "atol": 1e-6}
    if kind == "BCELoss":  # at probability 0 and 1 PyTorch divides by 1e-12 rounded to float32, also for float64
        tolerance["rtol"] = max(tolerance["rtol"], 1e-8)
    for ours, theirs in zip(run(Side(fastbp, dtype)), run(Side(torch, dtype)), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


def test_sample_weights_divide_by_their_sum():
    """s_i counts a row s_i times: whole weights equal repeated rows, in value and in gradient."""
    side = Side(fastbp, "float64")
    times = np.random.default_rng(2).integers(0, 4, ROWS)
    start = np.random.default_rng(8).uniform(0.1, 0.9, size=(ROWS, OUTPUTS))
    for name in LOSSES:
        loss, target = side.loss(name)
        x = side.tensor(start).requires_grad_()
        y = loss(x, target, sample_weight=side.tensor(times * 1.0))
        y.backward()
        repeated = side.tensor(np.repeat(start, times, axis=0)).requires_grad_()
        z = loss(repeated, side.tensor(np.repeat(LOSSES[name][2], times, axis=0)))
        z.backward()
        assert y.item() == pytest.approx(z.item(), rel=1e-12), name
        dx = np.zeros_like(start)
        np.add.at(dx, np.repeat(np.arange(ROWS), times), repeated.grad.numpy())
        np.testing.assert_allclose(x.grad.numpy(), dx, rtol=1e-12, atol=1e-15, err_msg=name)


# Activations and representation

ACTIVATIONS = [
    ("ReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.2}),
    ("ELU", {"alpha": 0.7}),
    ("GELU", {}),
    ("GELU", {"approximate": "tanh"}),
    ("SiLU", {}),
    ("Mish", {}),
    ("Tanh", {}),
    ("Sigmoid", {}),
    ("Softplus", {}),
    ("Softmax", {"dim": 1}),
    ("LogSoftmax", {"dim": 0}),
]


@pytest.mark.parametrize(("name", "options"), ACTIVATIONS, ids=lambda v: str(v))
def test_activation(name, options):
    start = np.random.default_rng(4).normal(size=(5, 7)) * 3
    seen = []
    for side in (Side(fastbp, "float64"), Side(torch, "float64")):
        x = side.tensor(start).requires_grad_()
        module = getattr(side.nn, name)(**options)
        y = module(x)
        (y * y).sum().backward()
        seen.append((y.detach().numpy(), x.grad.numpy()))
    for ours, theirs in zip(*seen, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    if name != "Softplus":  # PyTorch shows a threshold there
        assert repr(getattr(nn, name)(**options)) == repr(getattr(torch.nn, name)(**options))


# Checkpoints


def networks():
    ours = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    n = torch.nn
    theirs = n.Sequential(n.Flatten(), n.Linear(12, 8), n.GELU(), n.Linear(8, 5), n.ReLU(), n.Linear(5, 3))
    return ours, theirs


def assert_equal_outputs(ours, theirs):
    x = np.random.default_rng(0).normal(size=(20, 3, 4)).astype(np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(fastbp.tensor(x)).detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_pytorchs_checkpoint_loads(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    ours, theirs = networks()
    safetensors.save_file(theirs.state_dict(), tmp_path / "mlp.safetensors")
    ours.load_state_dict(fastbp.load(tmp_path / "mlp.safetensors"))
    assert_equal_outputs(ours, theirs)
    again, _ = networks()
    again.load_state_dict(theirs.state_dict())  # PyTorch's tensors are arrays too
    assert_equal_outputs(again, theirs)


def test_pytorch_loads_our_checkpoint(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    ours, theirs = networks()
    fastbp.save(ours, tmp_path / "mlp.safetensors")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "mlp.safetensors"))
    assert_equal_outputs(ours, theirs)


def test_models_look_alike():
    ours, theirs = networks()
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pytorchs_optimizer_state_continues(optimizer):
    kind, options = OPTIMIZERS[optimizer]
    r = np.random.default_rng(6)
    start, gradients = r.normal(size=(2, 3)), r.normal(size=(12, 2, 3))
    theirs = torch.nn.Parameter(torch.tensor(start))
    reference = getattr(torch.optim, kind)([theirs], **options)
    for gradient in gradients[:6]:
        theirs.grad = torch.tensor(gradient)
        reference.step()
    ours = nn.Parameter(fastbp.tensor(theirs.detach().numpy()))
    resumed = getattr(optim, kind)([ours], lr=9.0)
    resumed.load_state_dict(reference.state_dict())
    for gradient in gradients[6:]:
        theirs.grad, ours.grad = torch.tensor(gradient), fastbp.tensor(gradient)
        reference.step()
        resumed.step()
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-10)
