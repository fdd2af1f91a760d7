"""Containers, layers, activation modules, clipping of gradients."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import nn
from fastbp.nn import functional as F

# Containers


def test_sequential_runs_its_modules_in_order():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = fastbp.randn(5, 3)
    np.testing.assert_array_equal(model(x).detach().numpy(), model[2](model[1](model[0](x))).detach().numpy())


def test_sequential_indexes_like_a_list():
    a, b, c = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)
    model = nn.Sequential(a, b, c)
    assert len(model) == 3 and list(model) == [a, b, c] and model[-1] is c
    part = model[1:]
    assert (
        isinstance(part, nn.Sequential) and list(part) == [b, c] and list(part.state_dict()) == ["2.weight", "2.bias"]
    )
    assert list(part.append(nn.Tanh()))[:2] == [b, c] and len(part) == 3
    model[1] = nn.Tanh()
    assert isinstance(model[1], nn.Tanh)
    del model[0]
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    model.insert(0, a).extend([b])
    assert [type(m).__name__ for m in model] == ["Linear", "Tanh", "Linear", "ReLU"]
    with pytest.raises(IndexError, match=r"\[Sequential\] expected an index into 4 modules, got 4"):
        model[4]


def test_sequential_takes_names():
    model = nn.Sequential({"hidden": nn.Linear(2, 3), "out": nn.Linear(3, 1)})
    assert list(model.state_dict()) == ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]
    assert model.hidden is model[0]


def test_containers_take_modules_only():
    with pytest.raises(TypeError, match=r"\[Sequential\] expected modules, got function"):
        nn.Sequential(nn.Linear(1, 1), lambda x: x)
    with pytest.raises(TypeError, match="to be a Module"):
        nn.ModuleList().append(3)


def test_module_list_registers():
    model = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    model += [nn.Linear(2, 2)]
    assert len(model) == 4 and list(model.state_dict())[::2] == [f"{i}.weight" for i in range(4)]
    assert isinstance(model[1:3], nn.ModuleList) and model[1:3][0] is model[1]
    del model[:2]
    assert len(model) == 2


def test_module_dict_registers():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()})
    model["c"] = nn.Tanh()
    assert list(model) == ["a", "b", "c"] and "b" in model and len(model) == 3
    assert list(model.state_dict()) == ["a.weight", "a.bias"]
    del model["a"]
    assert [key for key, _ in model.items()] == ["b", "c"]


# Layers


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4), (0, 4)])
def test_linear(shape):
    layer = nn.Linear(4, 3, dtype=fastbp.float64)
    x = fastbp.tensor(np.random.default_rng(1).normal(size=shape))
    w, b = (p.detach().numpy() for p in layer.parameters())
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() @ w.T + b, rtol=1e-13, atol=1e-14)


def test_linear_without_bias():
    layer = nn.Linear(4, 3, bias=False)
    assert layer.bias is None and list(layer.state_dict()) == ["weight"]
    assert layer(fastbp.ones(2, 4)).shape == (2, 3)


def test_linear_checks_sizes():
    with pytest.raises(ValueError, match=r"\[Linear\] expected in_features to be an int of at least 0, got -1"):
        nn.Linear(-1, 3)
    assert nn.Linear(0, 3)(fastbp.zeros(2, 0)).shape == (2, 3)


def test_flatten_and_identity():
    x = fastbp.arange(24).reshape(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Identity(1, a=2)(x) is x


def test_dropout_scales_what_it_keeps():
    fastbp.manual_seed(0)
    drop = nn.Dropout(0.25)
    y = drop(fastbp.ones(100, 1000)).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    x = fastbp.ones(3)
    assert drop.eval()(x).tolist() == x.tolist()
    assert nn.Dropout(1.0)(x).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"\[Dropout\] expected p ≤ 1, got 1.5"):
        nn.Dropout(1.5)


# Activations: values are the operations' own; here only what is derived

NAMED = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.3),
    "elu": nn.ELU(alpha=0.7),
    "gelu": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
    "sine": nn.Sine(omega=3.0),
    "selu": nn.SELU(),
    "logsigmoid": nn.LogSigmoid(),
    "softmax": nn.Softmax(dim=-1),
    "log_softmax": nn.LogSoftmax(dim=0),
}


@pytest.mark.parametrize("name", NAMED)
def test_activation_modules_call_their_operation(name):
    module = NAMED[name]
    x = fastbp.randn(4, 5)
    options = {option: getattr(module, option) for option in module.options.parameters}
    np.testing.assert_array_equal(module(x).numpy(), getattr(F, name)(x, **options).numpy())
    again = pickle.loads(pickle.dumps(module))
    assert type(again) is type(module) and repr(again) == repr(module)
    assert module.__doc__


def test_an_activations_option_may_be_changed():
    module = nn.LeakyReLU()
    assert module.negative_slope == 0.01
    module.negative_slope = 0.5
    assert module(fastbp.tensor([-2.0])).item() == -1.0


def test_unknown_options_are_named():
    with pytest.raises(TypeError, match=r"\[LeakyReLU\] expected options \(negative_slope.*'slope'"):
        nn.LeakyReLU(slope=0.1)


# Clipping


def with_gradients(*gradients, dtype=fastbp.float64):
    params = [nn.Parameter(fastbp.zeros(np.shape(g), dtype=dtype)) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.grad = fastbp.tensor(np.asarray(g), dtype=dtype)
    return params


def test_clip_grad_norm_scales_all_gradients_alike():
    params = with_gradients([3.0, 0.0], [[4.0]])
    norm = nn.utils.clip_grad_norm_(params, 1.0)
    assert norm.shape == () and norm.item() == 5.0
    np.testing.assert_allclose(params[0].grad.numpy(), [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(params[1].grad.numpy(), [[0.8]], rtol=1e-6)


def test_clip_grad_norm_leaves_small_gradients_alone():
    params = with_gradients([3.0, 4.0])
    assert nn.utils.clip_grad_norm_(iter(params), 10.0).item() == 5.0
    assert params[0].grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(("norm_type", "expected"), [(1.0, 7.0), (3.0, 91 ** (1 / 3)), (math.inf, 4.0)])
def test_clip_grad_norm_takes_other_norms(norm_type, expected):
    params = with_gradients([3.0], [-4.0, 0.0])
    assert nn.utils.clip_grad_norm_(params, 1.0, norm_type).item() == pytest.approx(expected)
    np.testing.assert_allclose(params[1].grad.numpy(), [-4 / expected, 0.0], rtol=1e-5)


def test_clip_grad_norm_takes_mixed_dtypes_and_strided_gradients():
    params = with_gradients([3.0]) + with_gradients([[4.0, 0.0], [0.0, 0.0]], dtype=fastbp.float32)
    params[1].grad = params[1].grad.t()
    assert nn.utils.clip_grad_norm_(params, 2.5).item() == pytest.approx(5.0)
    np.testing.assert_allclose(params[0].grad.numpy(), [1.5], rtol=1e-6)
    np.testing.assert_allclose(params[1].grad.numpy(), [[2.0, 0], [0, 0]], rtol=1e-6)


def test_clip_grad_norm_without_gradients_is_zero():
    assert nn.utils.clip_grad_norm_([nn.Parameter(fastbp.ones(2))], 1.0).item() == 0.0


def test_clip_grad_norm_can_refuse_what_is_not_finite():
    params = with_gradients([math.inf], [1.0])
    with pytest.raises(RuntimeError, match=r"\[clip_grad_norm_\] expected gradients of finite norm, got inf"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert params[1].grad.tolist() == [1.0]
    params = with_gradients([math.nan], [1.0])
    nn.utils.clip_grad_norm_(params, 1.0)
    assert math.isnan(params[1].grad.item())


@pytest.mark.parametrize(("norm_type", "expected"), [(1.0, 7.0), (2.0, 5.0), (math.inf, 4.0)])
def test_total_norm_is_of_all_elements_and_changes_nothing(norm_type, expected):
    tensors = [fastbp.tensor([3.0]), fastbp.tensor([[-4.0, 0.0]], dtype=fastbp.float64, requires_grad=True)]
    norm = nn.utils.get_total_norm(iter(tensors), norm_type)
    assert norm.shape == () and norm.item() == pytest.approx(expected) and not norm.requires_grad
    assert [t.tolist() for t in tensors] == [[3.0], [[-4.0, 0.0]]]


def test_total_norm_of_nothing_and_of_what_is_not_finite():
    assert nn.utils.get_total_norm([]).item() == 0.0
    assert math.isnan(nn.utils.get_total_norm(fastbp.tensor([1.0, math.nan])).item())
    with pytest.raises(RuntimeError, match=r"\[get_total_norm\] expected a finite norm, got inf"):
        nn.utils.get_total_norm([fastbp.tensor([math.inf])], error_if_nonfinite=True)
    with pytest.raises(ValueError, match=r"\[get_total_norm\] expected norm_type > 0, got 0.0"):
        nn.utils.get_total_norm([], 0)


def test_clip_grad_value_clamps():
    params = with_gradients([3.0, -0.5, -9.0])
    nn.utils.clip_grad_value_(params[0], 2.0)
    assert params[0].grad.tolist() == [2.0, -0.5, -2.0]


def test_clipping_checks_its_limits():
    params = with_gradients([1.0])
    with pytest.raises(ValueError, match=r"\[clip_grad_norm_\] expected max_norm >= 0, got -1.0"):
        nn.utils.clip_grad_norm_(params, -1)
    with pytest.raises(ValueError, match=r"\[clip_grad_norm_\] expected norm_type > 0, got 0.0"):
        nn.utils.clip_grad_norm_(params, 1, 0)
    with pytest.raises(ValueError, match=r"\[clip_grad_value_\] expected clip_value >= 0, got -1.0"):
        nn.utils.clip_grad_value_(params, -1)
