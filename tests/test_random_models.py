"""Random models, their steps run operation by operation and compiled: equal to the bit.

FASTBP_RANDOM_MODELS=10000 in the environment tries so many small ones, and a tenth as many that threads share.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
import pytest
from compiled_runs import all_state, assert_same, trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from settings import native_settings_kept

import fastbp
from fastbp import _native, nn, optim
from fastbp.nn import functional as F
from fastbp.optim import lr_scheduler

EXAMPLES = int(os.environ.get("FASTBP_RANDOM_MODELS", "300"))


def properties(examples: int) -> Any:
    """Reproducible and never timed, as in the other files."""
    return settings(
        max_examples=max(examples, 1),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


ACTIVATIONS = ["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus", "mish", "abs", "square"]
NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "batch": nn.BatchNorm1d}
number = st.sampled_from([0.0, 0.01, 0.3])
momentum = st.sampled_from([0.0, 0.5, 0.9])
OPTIMIZERS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("SGD"), "momentum": momentum, "dampening": number, "weight_decay": number}),
    st.fixed_dictionaries({"kind": st.just("SGD"), "momentum": st.just(0.9), "nesterov": st.just(True)}),
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["Adam", "AdamW"]),
            "amsgrad": st.booleans(),
            "weight_decay": number,
            "betas": st.sampled_from([(0.9, 0.999), (0.0, 0.5)]),
        }
    ),
    st.fixed_dictionaries(
        {"kind": st.just("RMSprop"), "centered": st.booleans(), "momentum": momentum, "weight_decay": number}
    ),
    st.fixed_dictionaries({"kind": st.just("Adagrad"), "lr_decay": number, "initial_accumulator_value": number}),
)
LOSSES = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["mse_loss", "l1_loss", "binary_cross_entropy_with_logits"]),
            "reduction": st.sampled_from(["mean", "sum", "none"]),
            "weighted": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("cross_entropy"),
            "reduction": st.sampled_from(["mean", "sum", "none"]),
            "weighted": st.booleans(),
            "label_smoothing": st.sampled_from([0.0, 0.1]),
            "class_weights": st.booleans(),
            "probabilities": st.booleans(),
        }
    ),
)


def models(widths: Any, batches: list[int]) -> Any:
    """Everything that a run depends on, as a dict."""
    layer = st.fixed_dictionaries(
        {
            "width": widths,
            "bias": st.booleans(),
            "norm": st.sampled_from([None, None, None, *NORMS]),
            "activation": st.sampled_from([None, None, *ACTIVATIONS]),
            "dropout": st.sampled_from([None, None, 0.0, 0.3, 1.0]),
            "twice": st.booleans(),  # a layer that keeps the width may come twice
            "residual": st.booleans(),
        }
    )
    return st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["float32", "float32", "float64"]),
            "inputs": widths,
            "layers": st.lists(layer, min_size=1, max_size=4),
            "frozen": st.integers(-1, 3),  # the layer that is not trained
            "optimizer": OPTIMIZERS,
            "groups": st.booleans(),
            "loss": LOSSES,
            "batches": st.lists(st.sampled_from(batches), min_size=1, max_size=4),
            "parts": st.integers(1, 2),
            "set_to_none": st.booleans(),
            "clip": st.sampled_from([None, None, "norm", "value"]),
            "schedule": st.sampled_from([None, "inside", "outside"]),
            "penalty": st.booleans(),
            "evaluating": st.booleans(),
            "keep_grads": st.booleans(),
            "input_gradient": st.booleans(),
            "threads": st.sampled_from([1, 2, 3, 8]),
            "isa": st.sampled_from(_native.available_isas()),
            "seed": st.integers(0, 2**32),
        }
    )


class Net(nn.Module):
    def __init__(self, inputs: int, layers: list[dict[str, Any]]) -> None:
        super().__init__()
        self.options = layers
        self.linear = nn.ModuleList()
        self.dropout = nn.ModuleList()
        self.norm = nn.ModuleList()
        for options in layers:
            self.linear.append(nn.Linear(inputs, options["width"], bias=options["bias"]))
            self.norm.append(NORMS[options["norm"]](options["width"]) if options["norm"] else nn.Identity())
            self.dropout.append(nn.Dropout(options["dropout"] or 0.0))
            inputs = options["width"]

    def forward(self, x):
        for options, linear, norm, dropout in zip(self.options, self.linear, self.norm, self.dropout):
            square = x.shape[1] == options["width"]
            for _ in range(1 + (options["twice"] and square)):
                y = linear(x)
                if options["norm"] == "batch" and y.shape[0] == 1:  # which has no statistics
                    y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)
                else:
                    y = norm(y)
                if options["activation"]:
                    y = getattr(F, options["activation"])(y)
                if options["dropout"] is not None:
                    y = dropout(y)
                x = x + y if options["residual"] and square else y
        return x


def arguments(model: dict[str, Any], t: int, rows: int) -> tuple[Any, ...]:
    """Inputs, targets and weights of the rows."""
    rng = np.random.default_rng([model["seed"], t])
    width, loss = model["layers"][-1]["width"], model["loss"]
    x = rng.standard_normal((rows, model["inputs"])).astype(model["dtype"])
    if loss["name"] != "cross_entropy":
        y = rng.uniform(0, 1, (rows, width)).astype(model["dtype"])
    elif loss["probabilities"]:
        y = rng.dirichlet(np.ones(width), rows).astype(model["dtype"])
    else:
        y = rng.integers(0, width, rows)
        y[1::5] = -100  # ignored
    weights = rng.uniform(0.5, 2, rows).astype(model["dtype"]) if loss["weighted"] else None
    return fastbp.tensor(x).requires_grad_(model["input_gradient"]), y, weights


def setup_of(model: dict[str, Any]) -> tuple[Any, ...]:
    """The step, and what it changes."""
    net = Net(model["inputs"], model["layers"]).to(dtype=model["dtype"])
    if 0 <= model["frozen"] < len(net.linear) - 1:
        net.linear[model["frozen"]].requires_grad_(False)
    options = {name: value for name, value in model["optimizer"].items() if name != "kind"}
    params = list(net.parameters())
    if model["groups"] and len(params) > 1:
        params = [{"params": params[1:], "lr": 0.02}, {"params": params[:1]}]
    optimizer = getattr(optim, model["optimizer"]["kind"])(params, lr=0.01, **options)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.7)
    loss_options = {name: model["loss"][name] for name in ("reduction", "label_smoothing") if name in model["loss"]}
    if model["loss"].get("class_weights"):
        loss_options["weight"] = fastbp.arange(1, 1 + model["layers"][-1]["width"]).to(model["dtype"])
    loss_of = getattr(F, model["loss"]["name"])

    def step(x, y, weights):
        optimizer.zero_grad(set_to_none=model["set_to_none"])
        size = -(-x.shape[0] // model["parts"])
        for at in range(0, x.shape[0], size):
            part = slice(at, at + size)
            output = net(x[part])
            loss = loss_of(output, y[part], sample_weight=None if weights is None else weights[part], **loss_options)
            if loss.ndim:
                loss = loss.mean()
            if model["penalty"]:
                loss = loss + sum((p * p).sum() for p in net.parameters()) * 0.01
            if loss.requires_grad:
                loss.backward()
        norm = None
        if model["clip"] == "norm":
            norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        elif model["clip"] == "value":
            nn.utils.clip_grad_value_(net.parameters(), 0.01)
        optimizer.step()
        if model["schedule"] == "inside":
            schedule.step()
        return {"loss": loss, "outputs": (output, norm)}

    return step, net, optimizer, schedule


def check(model: dict[str, Any]) -> None:
    with native_settings_kept():
        _native.set_isa(model["isa"])
        fastbp.set_num_threads(model["threads"])

        def calls():
            for t, rows in enumerate([*model["batches"], *model["batches"]]):
                x, *others = arguments(model, t, rows)
                yield x, *[a if a is None else fastbp.tensor(a) for a in others]

        def between(t, net, optimizer, schedule):
            if model["evaluating"]:
                net.train(t % 3 != 1)
            if model["schedule"] == "outside":
                schedule.step()

        grads = model["keep_grads"]
        expected, _ = trace(lambda: setup_of(model), list(calls()), lambda f: f, between, grads)
        compile = fastbp.compile(keep_grads=grads)
        got, _ = trace(lambda: setup_of(model), list(calls()), compile, between, grads)
        for t, (a, b) in enumerate(zip(expected, got, strict=True)):
            assert_same(a, b, f"call {t}: ")


@properties(EXAMPLES)
@given(model=models(st.integers(1, 20), [1, 2, 7, 16, 33, 40]))
def test_compiled_steps_of_small_models(model):
    check(model)


@properties(EXAMPLES // 10)
@given(model=models(st.sampled_from([20, 65, 130, 257]), [7, 40, 200]))
def test_compiled_steps_of_models_that_threads_share(model):
    """Rows that do not divide evenly among threads or into tiles."""
    check(model)


@properties(EXAMPLES // 5)
@given(model=models(st.integers(1, 20), [513, 600, 1025, 1300]))
def test_compiled_steps_over_rows_in_chunks(model):
    check(model)


def check_epochs(model: dict[str, Any], shuffled: bool, guarded: bool, spoiled: int | None) -> None:
    """Epochs in native calls and by hand; a loss that is not finite ends the second one, where rows are spoiled."""
    rows, batch_size = 53, model["batches"][0]
    # Gradients of a step that is refused are not promised to be those of before.
    model = {**model, "input_gradient": False, "keep_grads": model["keep_grads"] and not guarded}
    arrays = [a for a in arguments(model, 0, rows) if a is not None]
    arrays = [a.numpy() if isinstance(a, fastbp.Tensor) else a for a in arrays]
    order = np.random.default_rng(model["seed"]).permutation(rows) if shuffled else np.arange(rows)
    bad = [np.array(a) for a in arrays]
    if spoiled is not None:
        bad[0][order[spoiled]] = np.nan

    def setup():
        step, *state = setup_of(model)

        def scalars(x, y, weights=None):
            result = step(x, y, weights)
            return result["loss"], result["outputs"][1]

        return scalars, *state

    def by_hand(step, data):
        seen = []
        for begin in range(0, rows, batch_size):
            before = all_state(state, model["keep_grads"])
            seen.append(step(*(fastbp.tensor(a[order[begin : begin + batch_size]]) for a in data)))
            if guarded and not np.isfinite(seen[-1][0].item()):
                return seen[:-1], before
        return seen, all_state(state, model["keep_grads"])

    with native_settings_kept():
        _native.set_isa(model["isa"])
        fastbp.set_num_threads(model["threads"])
        fastbp.manual_seed(11)
        step, *state = setup()
        whole = -(-rows // batch_size)
        expected = [by_hand(step, arrays)]
        if len(expected[0][0]) == whole:  # else its last step, which has no place in a native epoch, was taken
            expected.append(by_hand(step, bad))
        fastbp.manual_seed(11)
        step, *state = setup()
        compiled = fastbp.compile(step, keep_grads=model["keep_grads"], require_finite=guarded)
        for number, (data, (steps, after)) in enumerate(zip((arrays, bad), expected)):
            refused = pytest.raises(FloatingPointError, match=f"in step {len(steps)}$")
            with contextlib.nullcontext() if len(steps) == whole else refused:
                losses, norms = compiled.run_epoch(data, batch_size, permutation=order if shuffled else None)
                got = [("loss", losses.numpy()), ("norm", None if norms is None else norms.numpy())]
                loss = np.stack([loss.detach().numpy() for loss, _ in steps])
                norm = None if norms is None else np.stack([norm.detach().numpy() for _, norm in steps])
                assert_same([("loss", loss), ("norm", norm)], got, f"epoch {number}: ")
            assert_same(after, all_state(state, model["keep_grads"]), f"epoch {number}: ")


@properties(EXAMPLES // 6)
@given(
    model=models(st.integers(1, 20), [1, 2, 7, 16, 53, 60]),
    shuffled=st.booleans(),
    guarded=st.booleans(),
    spoiled=st.one_of(st.none(), st.integers(0, 52)),
)
def test_epochs_of_small_models(model, shuffled, guarded, spoiled):
    check_epochs(model, shuffled, guarded, spoiled)
